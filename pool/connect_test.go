package pool

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/pgvalet/pgvalet/backend"
)

func TestFinal(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&backend.LoginError{Code: "28P01"}, true},
		{&backend.LoginError{Code: "3D000"}, true},
		{&backend.LoginError{Code: "57P01"}, false},
		{&backend.LoginError{Code: "57P03"}, false},
		{&backend.LoginError{Code: "08006", Message: "unable to accept connection, waking up cluster, please retry later"}, false},
		{&backend.ConnectError{Kind: backend.ConnectFailed, Err: errors.New("refused")}, false},
		{&backend.ConnectError{Kind: backend.ConnectionLost, Err: errors.New("end")}, false},
		{&backend.ConnectError{Kind: backend.BadCertificate, Err: errors.New("expired")}, true},
		{&backend.ConnectError{Kind: backend.TLSFailed, Err: errors.New("no version in common")}, true},
		{&backend.ConnectError{Kind: backend.TLSFailed, Err: fmt.Errorf("handshake: %w", io.EOF)}, false},
		{errors.New("anything else"), true},
	} {
		if got := final(tt.err); got != tt.want {
			t.Errorf("%v: final %v, want %v", tt.err, got, tt.want)
		}
	}
}
