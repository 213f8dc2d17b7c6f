package wire

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		in  string
		typ byte
		n   int
		ok  bool
	}{
		{"", 0, 0, false},
		{"Q\x00\x00\x00", 0, 0, false},
		{"S\x00\x00\x00\x04", 'S', 5, true},
		{"Q\x00\x00\x01\x00rest", 'Q', 257, true},
		{"Q\x00\x00\x00\x03", 'Q', 4, true},
		{"Q\xff\xff\xff\xff", 'Q', 0, true},
		{"Q\x7f\xff\xff\xff", 'Q', 1 << 31, true},
	} {
		typ, n, ok := Header([]byte(tt.in))
		if typ != tt.typ || n != tt.n || ok != tt.ok {
			t.Errorf("Header(%q) = %c %d %v, want %c %d %v", tt.in, typ, n, ok, tt.typ, tt.n, tt.ok)
		}
	}
}

func TestAppendedMessagesDecode(t *testing.T) {
	var b []byte
	b = AppendError(b, ErrorResponse, "FATAL", "28P01", "password authentication failed")
	b = AppendError(b, NoticeResponse, "NOTICE", "00000", "queued")
	b = AppendParameterStatus(b, "TimeZone", "UTC")
	b = append(append(append(b, MsgParseComplete...), MsgCloseComplete...), MsgReadyIdle...)
	f := pgproto3.NewFrontend(bytes.NewReader(b), nil)
	next := func() pgproto3.BackendMessage {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	e := next().(*pgproto3.ErrorResponse)
	if e.Severity != "FATAL" || e.Code != "28P01" || e.Message != "password authentication failed" || e.SeverityUnlocalized != "FATAL" {
		t.Errorf("error = %+v", e)
	}
	if n := next().(*pgproto3.NoticeResponse); n.Message != "queued" {
		t.Errorf("notice = %+v", n)
	}
	if p := next().(*pgproto3.ParameterStatus); p.Name != "TimeZone" || p.Value != "UTC" {
		t.Errorf("parameter status = %+v", p)
	}
	_ = next().(*pgproto3.ParseComplete)
	_ = next().(*pgproto3.CloseComplete)
	if z := next().(*pgproto3.ReadyForQuery); z.TxStatus != 'I' {
		t.Errorf("ready = %+v", z)
	}

	back := pgproto3.NewBackend(bytes.NewReader(append(AppendQuery(nil, "select 1"), MsgSync...)), nil)
	if m, err := back.Receive(); err != nil || m.(*pgproto3.Query).String != "select 1" {
		t.Errorf("query = %+v, %v", m, err)
	}
	if m, err := back.Receive(); err != nil || m.(*pgproto3.Sync) == nil {
		t.Errorf("sync = %+v, %v", m, err)
	}
}

func FuzzErrorField(f *testing.F) {
	f.Add(AppendError(nil, ErrorResponse, "ERROR", "42601", "syntax")[HeaderLen:], byte('C'))
	f.Add([]byte("SERROR"), byte('S'))
	f.Add([]byte{0}, byte(0))
	f.Fuzz(func(t *testing.T, body []byte, code byte) {
		if v := ErrorField(body, code); bytes.IndexByte(v, 0) >= 0 {
			t.Errorf("field %c holds a terminator: %q", code, v)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x05\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, n, ok := Header(b)
		if ok != (len(b) >= HeaderLen) || (ok && typ != b[0]) || n > 1<<31 {
			t.Errorf("Header(%q) = %c %d %v", b, typ, n, ok)
		}
	})
}
