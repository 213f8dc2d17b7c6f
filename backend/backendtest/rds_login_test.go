package backendtest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// dialRDS opens a connection, with TLS unverified if secure. The deadline
// and the end of the test end it.
func dialRDS(t *testing.T, addr string, secure bool) net.Conn {
	t.Helper()
	ctx := testContext(t)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if !secure {
		return conn
	}
	if _, err := conn.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'S' {
		t.Fatalf("answer %q, %v to SSLRequest", answer, err)
	}
	tlsConn := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	return tlsConn
}

func startupPacket(version uint32, params string) []byte {
	packet := binary.BigEndian.AppendUint32(nil, uint32(8+len(params)))
	packet = binary.BigEndian.AppendUint32(packet, version)
	return append(packet, params...)
}

// TestRefusalsEqualPostgreSQLs plays the same bytes to PostgreSQL, with the
// rules that RDS has, and to the stand-in, and compares every answer up to the
// end of the connection. Where PostgreSQL has the password method instead of
// PAM nothing differs but the text of TestRefusedTokens.
func TestRefusalsEqualPostgreSQLs(t *testing.T) {
	shared.Postgres(t)
	ctx := testContext(t)
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	pg, err := StartPostgres(ctx, PostgresOptions{TLS: cert, HBA: []string{
		"local   all all          trust",
		"hostssl all +rds_iam all password",
		"host    all +rds_iam all reject",
		"hostssl all +auth_md5 all md5",
		"hostssl all all      all scram-sha-256",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := pg.Exec(ctx, "CREATE ROLE rds_iam", "CREATE ROLE app LOGIN IN ROLE rds_iam"); err != nil {
		t.Fatal(err)
	}
	if err := pg.CreateLogin(ctx, "hashed", MD5, "secret"); err != nil {
		t.Fatal(err)
	}
	r, err := StartRDS(RDSOptions{Network: "unix", Address: pg.SocketPath(), IAMUsers: []string{"app"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	const v3 = 3 << 16
	password := func(body string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{'p'}, uint32(4+len(body))), body...)
	}
	saslInitial, err := (&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=abcdefgh")}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		secure  bool
		packets [][]byte // each but the first after an answer to the one before
	}{
		{"member without TLS", false, [][]byte{startupPacket(v3, "user\x00app\x00database\x00postgres\x00\x00")}},
		{"other without TLS", false, [][]byte{startupPacket(v3, "user\x00pw\x00database\x00db\x00\x00")}},
		{"without a database", false, [][]byte{startupPacket(v3, "user\x00pw\x00\x00")}},
		{"protocol 4", false, [][]byte{startupPacket(4<<16, "user\x00app\x00\x00")}},
		{"packet too short", false, [][]byte{{0, 0, 0, 7, 0, 0, 0}}},
		{"SSLRequest within TLS", true, [][]byte{{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}}},
		{"no user", true, [][]byte{startupPacket(v3, "database\x00postgres\x00\x00")}},
		{"no terminator", true, [][]byte{startupPacket(v3, "user\x00app\x00")}},
		{"bytes after the terminator", true, [][]byte{startupPacket(v3, "user\x00app\x00\x00x")}},
		{"empty password", true, [][]byte{startupPacket(v3, "user\x00app\x00\x00"), password("\x00")}},
		{"unterminated password", true, [][]byte{startupPacket(v3, "user\x00app\x00\x00"), password("abc")}},
		{"password with a NUL", true, [][]byte{startupPacket(v3, "user\x00app\x00\x00"), password("a\x00c\x00")}},
		{"password too long", true, [][]byte{startupPacket(v3, "user\x00app\x00\x00"), password(strings.Repeat("x", 65531) + "\x00")[:5]}},
		{"query for a password", true, [][]byte{startupPacket(v3, "user\x00app\x00\x00"), {'Q', 0, 0, 0, 5, 0}}},
		{"SCRAM", true, [][]byte{startupPacket(v3, "user\x00pw\x00\x00"), saslInitial, nil}},
		{"md5", true, [][]byte{startupPacket(v3, "user\x00hashed\x00\x00"), password("md5" + strings.Repeat("0", 32) + "\x00")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.Set(func(k *Knobs) {
				k.Challenge = SCRAM
				if tt.name == "md5" {
					k.Challenge = MD5
				}
			})
			want := refusal(t, pg.Addr(), tt.secure, tt.packets)
			got := refusal(t, r.Addr(), tt.secure, tt.packets)
			if got != want {
				t.Errorf("stand-in: %s\nPostgreSQL: %s", got, want)
			}
		})
	}
}

// refusal sends packets and returns what comes back, in words. Random bytes
// are left out of it, and what differs between PostgreSQL's versions. A nil
// packet stands for the SCRAM proof, which needs the server's nonce.
func refusal(t *testing.T, addr string, secure bool, packets [][]byte) string {
	t.Helper()
	conn := dialRDS(t, addr, secure)
	frontend := pgproto3.NewFrontend(conn, conn)
	var out bytes.Buffer
	var nonce string
	for {
		if len(packets) > 0 {
			packet := packets[0]
			packets = packets[1:]
			if packet == nil {
				proof := &pgproto3.SASLResponse{Data: []byte("c=biws," + nonce + ",p=" + strings.Repeat("A", 43) + "=")}
				var err error
				if packet, err = proof.Encode(nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := conn.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
		msg, err := frontend.Receive()
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v after %s", addr, err, &out)
			}
			out.WriteString("end")
			return out.String()
		}
		switch msg := msg.(type) {
		case *pgproto3.AuthenticationCleartextPassword:
			out.WriteString("asks for a password, ")
		case *pgproto3.AuthenticationMD5Password:
			out.WriteString("asks for md5, ")
		case *pgproto3.AuthenticationSASL:
			out.WriteString("asks for " + strings.Join(msg.AuthMechanisms, " or ") + ", ")
		case *pgproto3.AuthenticationSASLContinue:
			var rest string
			nonce, rest, _ = strings.Cut(string(msg.Data), ",")
			salt, iterations, _ := strings.Cut(rest, ",")
			out.WriteString(nonce[:len("r=abcdefgh")] + "…" + "," + salt[:2] + "…," + iterations + ", ")
		case *pgproto3.ErrorResponse:
			e := *msg
			e.File, e.Line = "", 0
			e.Message = strings.Replace(e.Message, "supports 3.0 to 3.2", "supports 3.0 to 3.0", 1) // PostgreSQL 18
			text, err := e.Encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(strings.ReplaceAll(string(text[5:]), "\x00", " ") + ", ")
		default:
			t.Fatalf("%#v after %s", msg, &out)
		}
	}
}

func FuzzStartupParameters(f *testing.F) {
	f.Add([]byte("user\x00app\x00database\x00postgres\x00\x00"))
	f.Add([]byte("user\x00app\x00"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		packet, err := readStartupPacket(bytes.NewReader(startupPacket(3<<16, string(body))))
		if err != nil {
			if len(body)+8 <= maxStartupPacketLength {
				t.Error(err)
			}
			return
		}
		params, ok := startupParameters(packet)
		if !ok {
			return
		}
		var theirs pgproto3.StartupMessage
		if err := theirs.Decode(packet[4:]); err != nil && len(params) > 0 {
			t.Fatalf("%q, pgproto3: %v", params, err)
		}
		if !maps.Equal(params, theirs.Parameters) {
			t.Errorf("%q, pgproto3 has %q", params, theirs.Parameters)
		}
	})
}
