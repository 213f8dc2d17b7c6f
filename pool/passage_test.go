package pool

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
)

// TestPassageToNamedHost: a client that names one of several hosts is connected to
// it, and does not make it the one to begin with for those that name none.
func TestPassageToNamedHost(t *testing.T) {
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	port := one.Addr().(*net.TCPAddr).Port
	two, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Skip("there is no second address on the loopback interface: ", err)
	}
	defer two.Close()
	ps := startPools(t, 1, zap.NewNop(), `listen_addr = "127.0.0.1"`, fmt.Sprintf(
		"[databases.shop]\nhost = \"one.example, two.example\"\nport = %d\npool_mode = \"passthrough\"\npassthrough_port = 6433\nload_balance_hosts = \"disable\"", port))
	ps.dns = backend.NewNames(func(_ context.Context, host string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr(map[string]string{"one.example": "127.0.0.1", "two.example": "127.0.0.2"}[host])}, nil
	})
	for _, tt := range []struct {
		name string
		want net.Addr
	}{{"", one.Addr()}, {"TWO.example", two.Addr()}, {"", one.Addr()}, {"one.example", one.Addr()}, {"other.example", one.Addr()}} {
		_, server, end, err := ps.PassThrough(t.Context(), "shop", tt.name, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := server.RemoteAddr().String(); got != tt.want.String() {
			t.Errorf("a client of %q is connected to %s", tt.name, got)
		}
		server.Close()
		end()
	}
	two.Close()
	if _, _, _, err := ps.PassThrough(t.Context(), "shop", "two.example", false); err == nil {
		t.Error("a client was connected to another host than the one it named")
	}
}
