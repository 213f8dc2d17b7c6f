package backend

import (
	"encoding/binary"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// Ask runs a query with one parameter, which travels apart from it, in the
// extended protocol. The replies go to the holder, values as text.
func (s *Server) Ask(query, arg string) {
	var b []byte
	start := func(typ byte) func() {
		at := len(b)
		b = append(b, typ, 0, 0, 0, 0)
		return func() { wire.PutLen(b[at:], len(b)-at) }
	}
	end := start(wire.Parse)
	b = append(b, 0)
	b = append(b, query...)
	b = append(b, 0, 0, 0)
	end()
	end = start(wire.Bind)
	b = append(b, 0, 0, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(arg)))
	b = append(b, arg...)
	b = append(b, 0, 0)
	end()
	end = start(wire.Describe)
	b = append(b, 'P', 0)
	end()
	end = start(wire.Execute)
	b = append(b, 0, 0, 0, 0, 0)
	end()
	s.Stream.Write(append(b, wire.MsgSync...))
	s.unnamed = 0
	for _, kind := range [...]byte{wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Sync} {
		s.push(request{kind: kind})
	}
}
