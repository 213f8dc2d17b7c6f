package evloop

const (
	maxEvents = 256 // how many events one call to the poller may return
	wakeFD    = -1  // stands for the poller's own wake-up in event.fd
)

// event is one answer of the poller.
type event struct {
	fd   int
	what what
}

type what uint8

const (
	evRead   what = 1 << iota
	evWrite       // room for more bytes
	evHangup      // the peer will send no more
	evGone        // the connection is dead in both directions
)
