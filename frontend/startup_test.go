package frontend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/config"
)

// packet returns a packet of the start-up phase with its length.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

// startupPacket returns a StartupMessage; fields are names and values.
func startupPacket(protocol uint32, fields ...string) []byte {
	return packet(protocol, strings.Join(fields, "\x00")+"\x00\x00")
}

func TestParseStartup(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       startup
		err        error
	}{
		{name: "user only", body: "user\x00joe\x00\x00", want: startup{user: "joe", database: "joe"}},
		{name: "empty database", body: "user\x00joe\x00database\x00\x00\x00", want: startup{user: "joe", database: "joe"}},
		{
			name: "all", body: "user\x00joe\x00database\x00shop\x00options\x00-c a=b\x00replication\x00off\x00TimeZone\x00UTC\x00_pq_.x\x001\x00\x00",
			want: startup{
				user: "joe", database: "shop", options: "-c a=b", replication: "off",
				parameters: []Parameter{{"TimeZone", "UTC"}}, unknown: []string{"_pq_.x"},
			},
		},
		{name: "empty", body: "", err: errStartupLayout},
		{name: "terminator only", body: "\x00", err: errNoUser},
		{name: "empty user", body: "user\x00\x00\x00", err: errNoUser},
		{name: "no terminator", body: "user\x00joe\x00", err: errStartupLayout},
		{name: "no value", body: "user\x00\x00", err: errStartupLayout},
		{name: "cut value", body: "user\x00joe", err: errStartupLayout},
		{name: "cut name", body: "user", err: errStartupLayout},
		{name: "bytes behind", body: "user\x00joe\x00\x00\x00", err: errStartupLayout},
		{name: "longest user", body: "user\x00" + strings.Repeat("u", 127) + "\x00database\x00d\x00\x00", want: startup{user: strings.Repeat("u", 127), database: "d"}},
		{name: "long user", body: "user\x00" + strings.Repeat("u", 128) + "\x00\x00", err: errUserTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStartup(protocol30, []byte(tt.body))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			tt.want.requested = protocol30
			if err == nil && !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got %+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

func TestNegotiate(t *testing.T) {
	for _, tt := range []struct {
		requested uint32
		unknown   []string
		protocol  uint32
		answer    string
	}{
		{requested: 3 << 16, protocol: protocol30},
		{requested: 3<<16 | 1, protocol: protocol30},
		{requested: 3<<16 | 2, protocol: protocol32},
		{requested: 3<<16 | 3, protocol: protocol32, answer: "v\x00\x00\x00\x0c\x00\x03\x00\x02\x00\x00\x00\x00"},
		{requested: 3<<16 | 9999, protocol: protocol32, answer: "v\x00\x00\x00\x0c\x00\x03\x00\x02\x00\x00\x00\x00"},
		{requested: 3 << 16, unknown: []string{"_pq_.a", "_pq_.b"}, protocol: protocol30, answer: "v\x00\x00\x00\x1a\x00\x03\x00\x00\x00\x00\x00\x02_pq_.a\x00_pq_.b\x00"},
		{requested: 3<<16 | 2, unknown: []string{"_pq_.a"}, protocol: protocol32, answer: "v\x00\x00\x00\x13\x00\x03\x00\x02\x00\x00\x00\x01_pq_.a\x00"},
	} {
		s := &startup{requested: tt.requested, unknown: tt.unknown}
		if got := s.protocol(); got != tt.protocol {
			t.Errorf("%#x %v: protocol %#x, want %#x", tt.requested, tt.unknown, got, tt.protocol)
		}
		if got := string(s.negotiate(nil)); got != tt.answer {
			t.Errorf("%#x %v: answer %q, want %q", tt.requested, tt.unknown, got, tt.answer)
		}
	}
}

func TestSplitOptions(t *testing.T) {
	for in, want := range map[string][]string{
		"":                    nil,
		"  \t":                nil,
		"-c a=b":              {"-c", "a=b"},
		" -c\ta=b\n--c=d ":    {"-c", "a=b", "--c=d"},
		`--a=b\ c`:            {"--a=b c"},
		`--a=\\`:              {`--a=\`},
		`--a=b\`:              {"--a=b"},
		`\`:                   {""},
		`--search_path=\"x\"`: {`--search_path="x"`},
	} {
		if got := splitOptions(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSessionParameters(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options string
		direct  []Parameter
		ignore  []string
		want    []Parameter
		err     string
	}{
		{name: "none"},
		{name: "tracked", direct: []Parameter{{"client_encoding", "UTF8"}, {"datestyle", "ISO"}}, want: []Parameter{{"client_encoding", "UTF8"}, {"datestyle", "ISO"}}},
		{name: "extra", direct: []Parameter{{"intervalstyle", "iso_8601"}}, want: []Parameter{{"intervalstyle", "iso_8601"}}},
		{name: "unknown", direct: []Parameter{{"geqo", "on"}}, err: "unsupported startup parameter: geqo"},
		{name: "ignored", direct: []Parameter{{"GEQO", "on"}}, ignore: []string{"geqo"}},
		{name: "all forms", options: "-c a=1 -cb=2 --c-d=3", ignore: []string{"a", "b", "c_d"}},
		{name: "option", options: "-c TimeZone=UTC", want: []Parameter{{"TimeZone", "UTC"}}},
		{name: "value with equals", options: "--application_name=a=b", want: []Parameter{{"application_name", "a=b"}}},
		{name: "direct wins", options: "-c TimeZone=UTC", direct: []Parameter{{"timezone", "CET"}}, want: []Parameter{{"TimeZone", "CET"}}},
		{name: "unknown option", options: "-c geqo=on", err: "unsupported startup parameter in options: geqo"},
		{name: "any option ignored", options: "-c geqo=on", ignore: []string{"options"}},
		{name: "options ignored, direct not", direct: []Parameter{{"geqo", "on"}}, ignore: []string{"options"}, err: "unsupported startup parameter: geqo"},
		{name: "other flag", options: "-e", err: errOptionsSyntax.Message},
		{name: "ignoring does not help syntax", options: "-e", ignore: []string{"options"}, err: errOptionsSyntax.Message},
		{name: "no value", options: "--geqo", err: errOptionsSyntax.Message},
		{name: "no name", options: "--=1", err: errOptionsSyntax.Message},
		{name: "bare word", options: "geqo=1", err: errOptionsSyntax.Message},
		{name: "end after -c", options: "-c", err: errOptionsSyntax.Message},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &startup{options: tt.options, parameters: tt.direct}
			got, err := s.sessionParameters(&config.Settings{IgnoreStartupParams: tt.ignore, TrackExtraParameters: []string{"IntervalStyle"}})
			if text := errorText(err); text != tt.err {
				t.Fatalf("error %q, want %q", text, tt.err)
			}
			if err == nil && !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestReplicationKind(t *testing.T) {
	const bad = `invalid value for parameter "replication": `
	for value, want := range map[string]string{
		"": "none", "0": "none", "false": "none", "F": "none", "off": "none", "no": "none",
		"1": "physical", "true": "physical", "on": "physical", "yes": "physical", "T": "physical", "database": "logical",
		"o": bad + `"o"`, "maybe": bad + `"maybe"`, "Database": bad + `"Database"`,
	} {
		kind, err := (&startup{replication: value}).replicationKind()
		if got := errorText(err); got != want && kind.String() != want {
			t.Errorf("%q: %s %q, want %q", value, kind, got, want)
		}
	}
}

func FuzzStartup(f *testing.F) {
	f.Add(startupPacket(protocol30, "user", "plain", "database", "shop", "options", `-c TimeZone=U\ TC`, "_pq_.x", "1"))
	f.Add(append(packet(codeGSS, ""), append(packet(codeSSL, ""), 0x16, 3, 1, 0, 5, 1)...))
	f.Add(packet(codeCancel, "\x00\x00\x00\x01keykey"))
	f.Add(append(startupPacket(protocol32, "user", "scram"), "p\x00\x00\x00\x36SCRAM-SHA-256\x00\x00\x00\x00\x20n,,n=,r=fyko+d2lbbFgONRv9qkxdawL"...))
	f.Add([]byte{0x16, 3, 1, 0, 1, 0})
	f.Add(packet(2<<16, ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		if code, body, err := readStartup(r); err == nil {
			if used := len(in) - r.Len(); used != 8+len(body) {
				t.Fatalf("took %d bytes for a body of %d", used, len(body))
			}
			if s, err := parseStartup(code, body); err == nil {
				if s.user == "" || s.database == "" {
					t.Fatalf("accepted %+v", s)
				}
				_, _ = s.sessionParameters(&config.Settings{})
			}
		}
		// The same bytes as a whole login, over a pipe.
		cfg := testConfig()
		cfg.AuthType = []config.AuthType{config.AuthPlain, config.AuthMD5, config.AuthScram, config.AuthTrust}[len(in)%4]
		cfg.ClientLoginTimeout = 10 * time.Second
		a := NewAcceptor(testOptions(t, cfg).AcceptorOptions)
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.serve(near, "")
			near.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		_, _ = far.Write(in)
		far.Close()
		<-done
		a.Close()
	})
}
