package frontend

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/wire"
	"github.com/pgvalet/pgvalet/config"
)

// Protocol versions, major<<16 | minor, and the codes that stand in their
// place in other packets of the start-up phase (src/include/libpq/pqcomm.h).
const (
	protocol30 = 3 << 16
	protocol32 = 3<<16 | 2

	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSS    = 1234<<16 | 5680
)

const (
	// maxStartup is MAX_STARTUP_PACKET_LENGTH; like PostgreSQL, it does not
	// count the packet's own length field.
	maxStartup = 10000
	// maxUser is the longest user name that PgBouncer takes.
	maxUser = 127
	// maxCancelKey is the limit of protocol 3.2; keys were 4 bytes before.
	minCancelKey, maxCancelKey = 4, 256
)

// Parameter is a run-time parameter that a client set in its start-up packet.
type Parameter struct{ Name, Value string }

// readStartup reads one packet of the start-up phase and not a byte more. body
// is what follows the code. The error is io.EOF if not even a first byte came.
func readStartup(r io.Reader) (code uint32, body []byte, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(length[:])) - 4
	if n < 4 || n > maxStartup {
		return 0, nil, badHeader(length[:])
	}
	packet := make([]byte, n)
	if _, err := io.ReadFull(r, packet); err != nil {
		return 0, nil, noEOF(err)
	}
	code, body = binary.BigEndian.Uint32(packet), packet[4:]
	switch {
	case code == codeSSL || code == codeGSS:
		if len(body) > 0 {
			return 0, nil, badHeader(append(length[:], packet[:4]...))
		}
	case code == codeCancel || code>>16 == 3:
	case code>>16 == 2:
		return 0, nil, errOldProtocol
	default:
		return 0, nil, badHeader(append(length[:], packet[:4]...))
	}
	return code, body, nil
}

func badHeader(b []byte) error { return errBadHeader.with("'" + hex.EncodeToString(b) + "'") }

// noEOF makes an end that comes too early tell itself from one between packets.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// cancelRequest takes a CancelRequest apart.
func cancelRequest(body []byte) (pid uint32, key []byte, ok bool) {
	if len(body) < 4+minCancelKey || len(body) > 4+maxCancelKey {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(body), body[4:], true
}

// startup is a StartupMessage.
type startup struct {
	requested   uint32   // protocol version
	unknown     []string // protocol options: nobody has defined one yet
	user        string
	database    string
	replication string
	options     string
	parameters  []Parameter // the others
}

// parseStartup decodes a StartupMessage for protocol 3, by the rules of
// PostgreSQL's ProcessStartupPacket.
func parseStartup(requested uint32, body []byte) (*startup, error) {
	s := &startup{requested: requested}
	for {
		name, rest, ok := wire.CString(body)
		if ok && len(name) == 0 && len(rest) == 0 {
			break
		}
		value, rest, hasValue := wire.CString(rest)
		if !ok || len(name) == 0 || !hasValue {
			return s, errStartupLayout
		}
		body = rest
		s.set(string(name), string(value))
	}
	switch {
	case s.user == "":
		return s, errNoUser
	case len(s.user) > maxUser:
		return s, errUserTooLong
	}
	if s.database == "" {
		s.database = s.user
	}
	return s, nil
}

func (s *startup) set(name, value string) {
	switch {
	case name == "user":
		s.user = value
	case name == "database":
		s.database = value
	case name == "replication":
		s.replication = value
	case name == "options":
		s.options = value
	case strings.HasPrefix(name, "_pq_."):
		s.unknown = append(s.unknown, name)
	default:
		s.parameters = append(s.parameters, Parameter{name, value})
	}
}

// protocol is the version to speak. 3.1 was never defined; PostgreSQL 18 grants
// it without a word, and 3.0 is what it means by it.
func (s *startup) protocol() uint32 {
	if s.requested >= protocol32 {
		return protocol32
	}
	return protocol30
}

// negotiate appends the NegotiateProtocolVersion that PostgreSQL 18 would send,
// if it would: for a minor version above 2, or an unknown protocol option. Its
// first field is the whole version number, despite its name.
func (s *startup) negotiate(dst []byte) []byte {
	if s.requested <= protocol32 && len(s.unknown) == 0 {
		return dst
	}
	m := pgproto3.NegotiateProtocolVersion{
		NewestMinorProtocol: min(s.requested, protocol32),
		UnrecognizedOptions: s.unknown,
	}
	dst, _ = m.Encode(dst) // fails above 1 GB only
	return dst
}

// replicationKind is what the client asks for with the parameter "replication".
func (s *startup) replicationKind() (backend.Replication, error) {
	kind, ok := backend.ParseReplication(s.replication)
	if !ok {
		return kind, errReplicationValue.with(strconv.Quote(s.replication))
	}
	return kind, nil
}

// replicationParameters returns all that the client set: its server is its own,
// and can be started with whatever it wants.
func (s *startup) replicationParameters() []Parameter {
	all := slices.Clone(s.parameters)
	if s.options != "" {
		all = append(all, Parameter{"options", s.options})
	}
	return all
}

// tracked are the parameters that every server reports and that therefore can
// be kept per client, beside those of track_extra_parameters.
var tracked = []string{"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"}

// sessionParameters returns what the client set, out of options and directly;
// the latter wins, as in PostgreSQL. Parameters that cannot be kept per client
// are dropped if ignore_startup_parameters has them and refused if not.
func (s *startup) sessionParameters(settings *config.Settings) ([]Parameter, error) {
	options, err := parseOptions(s.options)
	if err != nil {
		return nil, err
	}
	ignored := func(name string) bool { return contains(settings.IgnoreStartupParams, name) }
	anyOption := ignored("options")
	var all []Parameter
	for i, p := range slices.Concat(options, s.parameters) {
		switch fromOptions := i < len(options); {
		case contains(tracked, p.Name), contains(settings.TrackExtraParameters, p.Name):
			all = setParameter(all, p)
		case ignored(p.Name), fromOptions && anyOption:
		case fromOptions:
			return nil, errOption.with(p.Name)
		default:
			return nil, errParameter.with(p.Name)
		}
	}
	return all, nil
}

// contains looks up the name of a parameter; case does not count in those.
func contains(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// setParameter adds p, or replaces the value that it had.
func setParameter(all []Parameter, p Parameter) []Parameter {
	for i := range all {
		if strings.EqualFold(all[i].Name, p.Name) {
			all[i].Value = p.Value
			return all
		}
	}
	return append(all, p)
}

// parseOptions takes the command line in the parameter "options" apart, which
// may hold "-c name=value", "-cname=value" and "--name=value". As in
// PostgreSQL, a dash in a name stands for an underscore.
func parseOptions(options string) ([]Parameter, error) {
	words := splitOptions(options)
	var all []Parameter
	for i := 0; i < len(words); i++ {
		setting, ok := strings.CutPrefix(words[i], "--")
		if !ok {
			setting, ok = strings.CutPrefix(words[i], "-c")
			if ok && setting == "" && i+1 < len(words) {
				i++
				setting = words[i]
			}
		}
		name, value, hasValue := strings.Cut(setting, "=")
		if !ok || !hasValue || name == "" {
			return nil, errOptionsSyntax
		}
		all = append(all, Parameter{strings.ReplaceAll(name, "-", "_"), value})
	}
	return all, nil
}

// splitOptions splits at white space; a backslash takes the meaning from what
// follows it (pg_split_opts in PostgreSQL).
func splitOptions(s string) []string {
	var words []string
	var word []byte
	inWord := false
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == ' ' || c >= '\t' && c <= '\r' {
			if inWord {
				words, word, inWord = append(words, string(word)), word[:0], false
			}
			continue
		}
		inWord = true
		if s[i] == '\\' {
			i++ // at the very end it stands for nothing
		}
		if i < len(s) {
			word = append(word, s[i])
		}
	}
	if inWord {
		words = append(words, string(word))
	}
	return words
}
