// Package wire knows how PostgreSQL messages lie in a byte stream, and nothing
// else: where one begins, what type it has and how long it is. It does no I/O
// and allocates nothing. Messages that must be understood in full are decoded
// by jackc/pgx's pgproto3; everything that is only carried is framed here.
//
// Source of the format: PostgreSQL documentation, chapter "Frontend/Backend
// Protocol", sections "Message Data Types" and "Message Formats"; the names of
// the types are those of src/include/libpq/protocol.h.
package wire

import (
	"bytes"
	"encoding/binary"
)

// Types of messages that clients send.
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd' // both directions
	CopyDone     = 'c' // both directions
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p' // also SASL responses
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Types of messages that servers send.
const (
	Authentication           = 'R'
	BackendKeyData           = 'K'
	BindComplete             = '2'
	CloseComplete            = '3'
	CommandComplete          = 'C'
	CopyBothResponse         = 'W'
	CopyInResponse           = 'G'
	CopyOutResponse          = 'H'
	DataRow                  = 'D'
	EmptyQueryResponse       = 'I'
	ErrorResponse            = 'E'
	FunctionCallResponse     = 'V'
	NegotiateProtocolVersion = 'v'
	NoData                   = 'n'
	NoticeResponse           = 'N'
	NotificationResponse     = 'A'
	ParameterDescription     = 't'
	ParameterStatus          = 'S'
	ParseComplete            = '1'
	PortalSuspended          = 's'
	ReadyForQuery            = 'Z'
	RowDescription           = 'T'
)

// HeaderLen is the length of a message's header: its type and its length.
const HeaderLen = 5

// Header reads the header at the start of b: the type of the message and its
// whole length, header included. ok is false while b is too short; a length
// that no message can have (the field counts itself, so it is at least 4)
// comes back as n < HeaderLen.
func Header(b []byte) (typ byte, n int, ok bool) {
	if len(b) < HeaderLen {
		return 0, 0, false
	}
	return b[0], int(int32(binary.BigEndian.Uint32(b[1:]))) + 1, true
}

// PutLen writes the length of the message in b, which must hold all of it, or
// n bytes of it are still to come.
func PutLen(b []byte, n int) { binary.BigEndian.PutUint32(b[1:], uint32(n-1)) }

// CString splits a zero-terminated string off the start of b. ok is false when
// there is no terminator.
func CString(b []byte) (s, rest []byte, ok bool) {
	s, rest, ok = bytes.Cut(b, []byte{0})
	if !ok {
		return nil, b, false
	}
	return s, rest, true
}

// Fixed messages that a proxy makes up. They must not be changed.
var (
	MsgParseComplete = []byte{ParseComplete, 0, 0, 0, 4}
	MsgCloseComplete = []byte{CloseComplete, 0, 0, 0, 4}
	MsgSync          = []byte{Sync, 0, 0, 0, 4}
	MsgReadyIdle     = []byte{ReadyForQuery, 0, 0, 0, 5, 'I'}
	MsgTerminate     = []byte{Terminate, 0, 0, 0, 4}
)

// AppendParse adds a Parse message without parameter types.
func AppendParse(dst []byte, name, sql string) []byte {
	start := len(dst)
	dst = append(dst, Parse, 0, 0, 0, 0)
	dst = append(append(dst, name...), 0)
	dst = append(append(dst, sql...), 0, 0, 0)
	PutLen(dst[start:], len(dst)-start)
	return dst
}

// AppendClose adds a Close message for a prepared statement.
func AppendClose(dst []byte, name string) []byte {
	start := len(dst)
	dst = append(dst, Close, 0, 0, 0, 0, 'S')
	dst = append(append(dst, name...), 0)
	PutLen(dst[start:], len(dst)-start)
	return dst
}

// AppendQuery appends a simple Query message.
func AppendQuery(dst []byte, sql string) []byte {
	dst = append(dst, Query, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(dst[len(dst)-4:], uint32(len(sql)+5))
	dst = append(dst, sql...)
	return append(dst, 0)
}

// AppendCommandComplete appends a CommandComplete message.
func AppendCommandComplete(dst []byte, tag string) []byte {
	start := len(dst)
	dst = append(dst, CommandComplete, 0, 0, 0, 0)
	dst = append(dst, tag...)
	dst = append(dst, 0)
	PutLen(dst[start:], len(dst)-start)
	return dst
}

// AppendReady appends a ReadyForQuery message with a transaction status.
func AppendReady(dst []byte, tx byte) []byte {
	return append(dst, ReadyForQuery, 0, 0, 0, 5, tx)
}

// AppendCopyFail appends a CopyFail message.
func AppendCopyFail(dst []byte, why string) []byte {
	start := len(dst)
	dst = append(dst, CopyFail, 0, 0, 0, 0)
	dst = append(dst, why...)
	dst = append(dst, 0)
	PutLen(dst[start:], len(dst)-start)
	return dst
}

// AppendError appends an ErrorResponse (or, with severity NOTICE, what belongs
// in a NoticeResponse of type typ) with the fields that PostgreSQL always
// sends: localized and plain severity, SQLSTATE and message.
func AppendError(dst []byte, typ byte, severity, sqlstate, message string) []byte {
	return AppendErrorFields(dst, typ, severity, sqlstate, message, "", "")
}

// AppendErrorFields is AppendError with a detail and a hint, each left out if it
// is empty.
func AppendErrorFields(dst []byte, typ byte, severity, sqlstate, message, detail, hint string) []byte {
	start := len(dst)
	dst = append(dst, typ, 0, 0, 0, 0)
	for _, f := range [...]struct {
		code byte
		text string
	}{{'S', severity}, {'V', severity}, {'C', sqlstate}, {'M', message}, {'D', detail}, {'H', hint}} {
		if f.text == "" && (f.code == 'D' || f.code == 'H') {
			continue
		}
		dst = append(dst, f.code)
		dst = append(dst, f.text...)
		dst = append(dst, 0)
	}
	dst = append(dst, 0)
	PutLen(dst[start:], len(dst)-start)
	return dst
}

// AppendParameterStatus appends a ParameterStatus message.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	start := len(dst)
	dst = append(dst, ParameterStatus, 0, 0, 0, 0)
	dst = append(dst, name...)
	dst = append(dst, 0)
	dst = append(dst, value...)
	dst = append(dst, 0)
	PutLen(dst[start:], len(dst)-start)
	return dst
}

// ErrorField returns one field of an ErrorResponse's or NoticeResponse's body
// (the message without its header), nil if it is not there. Field codes:
// PostgreSQL documentation, "Error and Notice Message Fields".
func ErrorField(body []byte, code byte) []byte {
	for len(body) > 1 && body[0] != 0 {
		s, rest, ok := CString(body[1:])
		if !ok {
			return nil
		}
		if body[0] == code {
			return s
		}
		body = rest
	}
	return nil
}
