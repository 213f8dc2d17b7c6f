package frontend

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

type ShutdownMode int

const (
	ShutdownNow ShutdownMode = iota
	ShutdownWaitForServers
	ShutdownWaitForClients
)

type ConsoleOptions struct {
	Config   func() *config.Config
	Pools    *pool.Pools
	Sessions *Sessions
	Reload   func() error
	Shutdown func(mode ShutdownMode)
	Version  string
	Logins   func() int
	Log      *zap.Logger
}
type Console struct{}

func NewConsole(ConsoleOptions) *Console                   { return &Console{} }
func (*Console) Serve(ctx context.Context, l *Login) error { return errors.New("no") }
func (*Console) Close()                                    {}
