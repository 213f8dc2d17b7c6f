package frontend

import (
	"testing"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// TestPartOfMessage: a client that stops in the middle of a small message holds no
// server, and what it means is understood wherever it is split.
func TestPartOfMessage(t *testing.T) {
	r := newRig(t, "default_pool_size = 1\nmax_prepared_statements = 10")
	c, other := r.client(), r.client()
	deallocate := bytesOf(t, query("deallocate one"))
	for split := 1; split < len(deallocate); split++ {
		c.send(parse("one", "select 1"), syncMsg)
		c.want("1", "Z I")
		c.write(deallocate[:split])
		other.do("select 2") // and so the loop has read the part
		c.write(deallocate[split:])
		c.want("C DEALLOCATE", "Z I")
	}
	for _, m := range [][]byte{bytesOf(t, query("select 3")), bytesOf(t, parse("", "select 3"), bind(""), execute, syncMsg)} {
		c.write(m[:wire.HeaderLen])
		other.do("select 2")
		c.write(m[wire.HeaderLen:])
		c.until("Z")
	}
}
