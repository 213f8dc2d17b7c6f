package frontend

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/config"
)

// join puts packets behind one another.
func join(packets ...[]byte) []byte { return slices.Concat(packets...) }

// TestTranscripts sends bytes in one write, closes the sending side, and
// compares all that comes back.
func TestTranscripts(t *testing.T) {
	login := startupPacket(protocol30, "user", "plain", "database", "shop")
	ssl, gss := packet(codeSSL, ""), packet(codeGSS, "")
	long := bytes.Repeat([]byte("x"), 200<<10)
	const ask = "AuthenticationCleartextPassword"
	for _, tt := range []struct {
		name    string
		network string // default "tcp"
		send    []byte
		single  int // answers of one byte
		want    []string
	}{
		{name: "nothing", want: []string{"EOF"}},
		{name: "half a length", send: []byte{0, 0}, want: []string{"EOF"}},
		{name: "half a packet", send: login[:20], want: []string{"EOF"}},
		{name: "length 0", send: []byte{0, 0, 0, 0, 0, 3, 0, 0}, want: []string{"FATAL 08P01 bad packet header: '00000000'", "EOF"}},
		{name: "length 7", send: []byte{0, 0, 0, 7, 0, 3, 0}, want: []string{"FATAL 08P01 bad packet header: '00000007'", "EOF"}},
		{name: "negative length", send: []byte{255, 255, 255, 255, 0, 3, 0, 0}, want: []string{"FATAL 08P01 bad packet header: 'ffffffff'", "EOF"}},
		{name: "too long", send: join([]byte{0, 0, 0x27, 0x15, 0, 3, 0, 0}, long), want: []string{"FATAL 08P01 bad packet header: '00002715'", "EOF"}},
		{name: "HTTP", send: join([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), long), want: []string{"FATAL 08P01 bad packet header: '47455420'", "EOF"}},
		{name: "protocol 2", send: packet(2<<16, strings.Repeat("\x00", 288)), want: []string{"FATAL 0A000 old V2 protocol not supported", "EOF"}},
		{name: "protocol 4", send: packet(4<<16, "user\x00plain\x00\x00"), want: []string{"FATAL 08P01 bad packet header: '0000001400040000'", "EOF"}},
		{name: "protocol 1", send: packet(1<<16, ""), want: []string{"FATAL 08P01 bad packet header: '0000000800010000'", "EOF"}},
		{name: "no terminator", send: packet(protocol30, "user\x00plain\x00"), want: []string{"FATAL 08P01 invalid startup packet layout: expected terminator as last byte", "EOF"}},
		{name: "no user", send: startupPacket(protocol30, "database", "shop"), want: []string{"FATAL 28000 no username supplied", "EOF"}},
		{name: "long user", send: startupPacket(protocol30, "user", strings.Repeat("u", 200)), want: []string{"FATAL 28000 username too long", "EOF"}},
		{name: "largest packet", send: startupPacket(protocol30, "user", "plain", "database", "shop", "application_name", strings.Repeat("x", 10000-4-5-6-9-5-17-2)), want: []string{ask, "EOF"}},
		{name: "parameter", send: startupPacket(protocol30, "user", "plain", "database", "shop", "geqo", "on"), want: []string{"FATAL 0A000 unsupported startup parameter: geqo", "EOF"}},
		{name: "parameter for the console", send: startupPacket(protocol30, "user", "plain", "database", "pgbouncer", "geqo", "on", "options", "-e"), want: []string{ask, "EOF"}},
		{name: "option", send: startupPacket(protocol30, "user", "plain", "options", "-c geqo=on"), want: []string{"FATAL 0A000 unsupported startup parameter in options: geqo", "EOF"}},
		{name: "options syntax", send: startupPacket(protocol30, "user", "plain", "options", "-W 5"), want: []string{"FATAL 0A000 unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed", "EOF"}},
		{name: "replication", send: startupPacket(protocol30, "user", "plain", "replication", "maybe"), want: []string{`FATAL 22023 invalid value for parameter "replication": "maybe"`, "EOF"}},
		{name: "no replication", send: startupPacket(protocol30, "user", "plain", "replication", "off"), want: []string{ask, "EOF"}},
		{name: "protocol 3.1", send: startupPacket(3<<16|1, "user", "plain"), want: []string{ask, "EOF"}},
		{name: "protocol 3.2", send: startupPacket(3<<16|2, "user", "plain"), want: []string{ask, "EOF"}},
		{name: "protocol 3.3", send: startupPacket(3<<16|3, "user", "plain"), want: []string{"negotiate 0x30002 []", ask, "EOF"}},
		{name: "protocol option", send: startupPacket(3<<16, "user", "plain", "_pq_.a", "1"), want: []string{"negotiate 0x30000 [_pq_.a]", ask, "EOF"}},
		{name: "negotiation before an error", send: startupPacket(3<<16|9, "user", "plain", "geqo", "on"), want: []string{"negotiate 0x30002 []", "FATAL 0A000 unsupported startup parameter: geqo", "EOF"}},

		{name: "SSL refused", send: join(ssl, login), single: 1, want: []string{"N", ask, "EOF"}},
		{name: "GSS refused", send: join(gss, login), single: 1, want: []string{"N", ask, "EOF"}},
		{name: "GSS, then SSL", send: join(gss, ssl, login), single: 2, want: []string{"N", "N", ask, "EOF"}},
		{name: "SSL twice", send: join(ssl, ssl), single: 1, want: []string{"N", "FATAL 08P01 bad packet header: '0000000804d2162f'", "EOF"}},
		{name: "GSS twice", send: join(gss, gss), single: 1, want: []string{"N", "FATAL 08P01 bad packet header: '0000000804d21630'", "EOF"}},
		{name: "long SSLRequest", send: packet(codeSSL, "x"), want: []string{"FATAL 08P01 bad packet header: '0000000904d2162f'", "EOF"}},
		{name: "direct TLS while it is off", send: []byte{0x16, 3, 1, 0, 1, 0}, want: []string{"EOF"}},
		{name: "SSL on a unix socket", network: "unix", send: join(ssl, login), single: 1, want: []string{"N", ask, "EOF"}},

		{name: "right password", send: join(login, []byte("p\x00\x00\x00\x12"+password+"\x00")), want: []string{ask, "AuthenticationOk", "ParameterStatus", "ParameterStatus", "ParameterStatus", "BackendKeyData", "ReadyForQuery", "EOF"}},
		{name: "right password, unix", network: "unix", send: join(login, []byte("p\x00\x00\x00\x12"+password+"\x00X\x00\x00\x00\x04")), want: []string{ask, "AuthenticationOk", "ParameterStatus", "ParameterStatus", "ParameterStatus", "BackendKeyData", "ReadyForQuery", "EOF"}},
		{name: "wrong password", send: join(login, []byte("p\x00\x00\x00\x09nope\x00"), long), want: []string{ask, "FATAL 28P01 password authentication failed", "EOF"}},
		{name: "empty password", send: join(login, []byte("p\x00\x00\x00\x05\x00")), want: []string{ask, "FATAL 28P01 empty password returned by client", "EOF"}},
		{name: "password without end", send: join(login, []byte("p\x00\x00\x00\x08nope")), want: []string{ask, "FATAL 08P01 invalid password packet size", "EOF"}},
		{name: "password with more behind", send: join(login, []byte("p\x00\x00\x00\x0anope\x00x")), want: []string{ask, "FATAL 08P01 invalid password packet size", "EOF"}},
		{name: "longest password", send: join(login, []byte("p\x00\x00\xff\xff"), long[:65530], []byte{0}), want: []string{ask, "FATAL 28P01 password authentication failed", "EOF"}},
		{name: "too long password", send: join(login, []byte("p\x00\x02\x00\x05"), long), want: []string{ask, "FATAL 08P01 invalid password packet size", "EOF"}},
		{name: "huge password", send: join(login, []byte("p\x7f\xff\xff\xff"), long), want: []string{ask, "FATAL 08P01 invalid password packet size", "EOF"}},
		{name: "password of negative length", send: join(login, []byte("p\xff\xff\xff\xff")), want: []string{ask, "FATAL 08P01 invalid password packet size", "EOF"}},
		{name: "query instead", send: join(login, []byte("Q\x00\x00\x00\x0dselect 1\x00")), want: []string{ask, "FATAL 08P01 expected password response, got message type 81", "EOF"}},
		{name: "terminate instead", send: join(login, []byte("X\x00\x00\x00\x04")), want: []string{ask, "EOF"}},
		{name: "end in the password", send: join(login, []byte("p\x00\x00\x00\x12corr")), want: []string{ask, "EOF"}},

		{name: "cancel with a short key", send: packet(codeCancel, "\x00\x00\x00\x01abc"), want: []string{"EOF"}},
		{name: "cancel with a long key", send: packet(codeCancel, "\x00\x00\x00\x01"+strings.Repeat("k", 257)), want: []string{"EOF"}},
		{name: "cancel without a key", send: packet(codeCancel, ""), want: []string{"EOF"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, testConfig())
			if tt.network == "" {
				tt.network = "tcp"
			}
			conn := f.dial(t, tt.network)
			if _, err := conn.Write(tt.send); err != nil {
				t.Fatal(err)
			}
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got := transcript(t, conn, tt.single); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if len(f.cancels) > 0 {
				t.Errorf("a cancel came through: %v", <-f.cancels)
			}
		})
	}
}

func TestPlainBytesBehindSSLRequestAreRefused(t *testing.T) {
	f := testOptions(t, testConfig())
	f.useTLS(t, config.SSLRequire)
	f.start(t)
	conn := f.dial(t, "tcp")
	send := join(packet(codeSSL, ""), startupPacket(protocol30, "user", "plain"))
	if _, err := conn.Write(send); err != nil {
		t.Fatal(err)
	}
	want := []string{"FATAL 08P01 received unencrypted data after SSL request", "EOF"}
	if got := transcript(t, conn, 0); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A plain start-up packet in place of a ClientHello ends in TLS, not in a login.
func TestPlainBytesInsteadOfTLSAreRefused(t *testing.T) {
	f := testOptions(t, testConfig())
	f.useTLS(t, config.SSLPrefer)
	f.start(t)
	conn := f.dial(t, "tcp")
	if _, err := conn.Write(packet(codeSSL, "")); err != nil {
		t.Fatal(err)
	}
	var b [64]byte
	if n, err := conn.Read(b[:]); err != nil || string(b[:n]) != "S" {
		t.Fatalf("answer %q, %v", b[:n], err)
	}
	if _, err := conn.Write(startupPacket(protocol30, "user", "plain", "database", "shop")); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := conn.Read(b[:])
		if bytes.Contains(b[:n], []byte("R\x00\x00")) {
			t.Fatalf("the login went on: %q", b[:n])
		}
		if err != nil {
			break
		}
	}
	f.logged(t, "closing because: TLS handshake failed: ")
}

func TestLoginTimeout(t *testing.T) {
	login := startupPacket(protocol30, "user", "plain", "database", "shop")
	const text = "FATAL 57014 client_login_timeout"
	for _, tt := range []struct {
		name   string
		send   []byte
		single int
		want   []string
	}{
		{name: "silent", want: []string{text, "EOF"}},
		{name: "half a packet", send: login[:9], want: []string{text, "EOF"}},
		{name: "no password", send: login, want: []string{"AuthenticationCleartextPassword", text, "EOF"}},
		{name: "half a handshake", send: packet(codeSSL, ""), single: 1, want: []string{"S", "EOF"}},
		{name: "half a direct handshake", send: []byte{0x16, 3}, want: []string{"EOF"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig()
			cfg.ClientLoginTimeout = 100 * time.Millisecond
			f := testOptions(t, cfg)
			f.useTLS(t, config.SSLPrefer)
			f.start(t)
			conn := f.dial(t, "tcp")
			if _, err := conn.Write(tt.send); err != nil {
				t.Fatal(err)
			}
			if got := transcript(t, conn, tt.single); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			f.logged(t, "client_login_timeout (age=0s)")
		})
	}
}

// A client that goes on sending after its error is cut off.
func TestEndlessClientIsCutOff(t *testing.T) {
	f := start(t, testConfig())
	conn := f.dial(t, "tcp")
	chunk := join(packet(2<<16, ""), make([]byte, 64<<10))
	for {
		if _, err := conn.Write(chunk); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("nobody closed the connection")
		} else if err != nil {
			break
		}
	}
	if entry := f.logged(t, "closing because: old V2 protocol not supported (age=0s)"); !strings.HasPrefix(entry.LoggerName, "C-1: (nodb)/(nouser)@127.0.0.1:") {
		t.Errorf("prefix of %q", entry.Message)
	}
	if entry := f.logged(t, "pooler error: old V2 protocol not supported"); entry.Level != zapcore.WarnLevel {
		t.Errorf("level %v", entry.Level)
	}
}

func TestHealthCheckIsQuiet(t *testing.T) {
	f := start(t, testConfig())
	conn := f.dial(t, "tcp")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, want := transcript(t, conn, 0), []string{"EOF"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if entry := f.logged(t, "closing because: client unexpected eof"); entry.Level != zapcore.DebugLevel {
		t.Errorf("logged at %v", entry.Level)
	}
}
