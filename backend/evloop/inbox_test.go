package evloop

import (
	"bytes"
	"testing"
)

// TestInboxKeepsWhatIsUnderWay: a handler has parsed a long message and will
// send it on only after Keep.
func TestInboxKeepsWhatIsUnderWay(t *testing.T) {
	l := newLoop(t, nil)
	data := bytes.Repeat([]byte("long"), bufferSize)
	b := Inbox{rest: bytes.Clone(data)}
	parsed, rest := b.rest[:len(data)-100], b.rest[len(data)-100:]
	b.Keep(l, rest, false)
	if !bytes.Equal(parsed, data[:len(data)-100]) {
		t.Error("Keep has changed what came before the rest")
	}
	if !bytes.Equal(b.rest, data[len(data)-100:]) {
		t.Errorf("kept %q", b.rest)
	}
}
