package frontend

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/config"
)

func encryptionName(overTLS bool) string {
	if overTLS {
		return "tls"
	}
	return "plain"
}

// readyReply is the ReadyForQuery of an idle server.
const readyReply = "Z\x00\x00\x00\x05I"

// BenchmarkTransaction is a whole transaction of one client: request, lease,
// server, reply, return. The ends allocate nothing; they take a good part of
// the time.
func BenchmarkTransaction(b *testing.B) {
	for _, overTLS := range []bool{false, true} {
		for _, tx := range quietTransactions(b) {
			b.Run(fmt.Sprintf("%s/%s", encryptionName(overTLS), tx.name), func(b *testing.B) {
				c := quietRig(b, overTLS, "").quiet(b, overTLS)
				if err := c.prepare(tx); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := c.transaction(tx.run); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRequests takes a buffer full of a client's messages to a busy server,
// up to where they would be sent.
func BenchmarkRequests(b *testing.B) {
	const bound, done, ready = "2\x00\x00\x00\x04", "C\x00\x00\x00\x0dSELECT 1\x00", readyReply
	for _, bench := range []struct {
		name     string
		messages []byte
		replies  string // to these messages
	}{
		{"simple", bytesOf(b, query("SELECT abalance FROM pgbench_accounts WHERE aid = 4711;")), done + ready},
		{"prepared", bytesOf(b, bind("P_0", "4711"), execute, syncMsg), bound + done + ready},
		{"COPY of 170B rows", bytesOf(b, copyData(strings.Repeat("x", 165))), ""},
	} {
		b.Run(bench.name, func(b *testing.B) {
			bare := newBareSession(b)
			defer bare.close()
			bare.take(b, bytesOf(b, parse("P_0", "SELECT $1"), syncMsg), "1\x00\x00\x00\x04"+ready)
			times := len(bare.s.w.loop.Scratch()) / len(bench.messages)
			data := bytes.Repeat(bench.messages, times)
			replies := strings.Repeat(bench.replies, times)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				bare.take(b, data, replies)
			}
		})
	}
}

// take has the session take requests, and the server get the replies, which is
// not measured. One ReadyForQuery is always outstanding.
func (t *bareSession) take(b *testing.B, requests []byte, replies string) {
	s := t.s
	if rest := s.requests(requests); len(rest) > 0 {
		b.Fatalf("%d bytes were not taken", len(rest))
	}
	s.w.toServer.Flush(nil)
	if replies == "" {
		return
	}
	b.StopTimer()
	defer b.StartTimer()
	if _, err := io.WriteString(t.serverEnd, readyReply+replies[:len(replies)-len(readyReply)]); err != nil {
		b.Fatal(err)
	}
	s.state = sessionLingering // nobody is to get them
	for n := s.srv.Outstanding(); n > 1; n = s.srv.Outstanding() {
		if err := s.srv.Stream.Unpark(s.w.loop); err != nil { // there is something to read
			b.Fatal(err)
		}
		if s.srv.Readable(s.srv.Stream); s.srv.Outstanding() == n {
			b.Fatalf("%d requests have no answer", n)
		}
	}
	s.state = sessionOpen
}

// BenchmarkStartup reads and decodes the first message of psql.
func BenchmarkStartup(b *testing.B) {
	packet := bytesOf(b, &pgproto3.StartupMessage{ProtocolVersion: protocol30, Parameters: map[string]string{
		"user": "postgres", "database": "app", "application_name": "psql", "client_encoding": "UTF8",
	}})
	settings := &config.Settings{}
	r := bytes.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(packet)
		code, body, err := readStartup(r)
		if err != nil {
			b.Fatal(err)
		}
		s, err := parseStartup(code, body)
		if err != nil {
			b.Fatal(err)
		}
		if params, err := s.sessionParameters(settings); err != nil || len(params) != 2 {
			b.Fatal(params, err)
		}
	}
}
