package backend

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Ask runs a query and returns the first row that it gives, as text, NULL as "".
// The error is a *LoginError if it is the server's. It is for a connection that
// has just been opened; after another error, or when ctx has ended, nothing but
// Close may follow.
func (l *Login) Ask(ctx context.Context, sql string) ([]string, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := l.Transport.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Transport.SetDeadline(longAgo) })
	defer stop()
	f := pgproto3.NewFrontend(l.stream(), l.stream())
	f.Send(&pgproto3.Query{String: sql})
	if err := f.Flush(); err != nil {
		return nil, err
	}
	var row []string
	var failed error
	for {
		msg, err := f.Receive()
		if failed != nil && err != nil {
			return nil, failed // it was FATAL
		}
		if err != nil {
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if row != nil {
				continue
			}
			for _, v := range m.Values {
				row = append(row, string(v))
			}
		case *pgproto3.ErrorResponse:
			failed = newLoginError(m)
		case *pgproto3.ReadyForQuery:
			return row, failed
		}
	}
}

// stream is what the messages go over.
func (l *Login) stream() io.ReadWriter {
	if l.TLS != nil {
		return l.TLS
	}
	return l.Transport
}
