package frontend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
)

// authIAM takes the client's own RDS IAM token. Nobody but RDS can tell whether
// it is right, so it is handed to RDS, if what it says of itself fits: a login
// there is dear, and throttled. See proofs.
func (c *client) authIAM(ctx context.Context) error {
	if c.login.TLS == nil {
		return errIAMWithoutTLS
	}
	text, err := c.askPassword(&pgproto3.AuthenticationCleartextPassword{}, maxCleartext)
	if err != nil {
		return err
	}
	claims, err := auth.ParseToken(text)
	if err != nil {
		return errIAM.with(err.Error())
	}
	db := c.cfg.Database(c.login.database)
	if db == nil {
		// As for a token that is for another database: who has not logged in
		// does not learn which there are.
		return fmt.Errorf("%w (no such database)", errIAM.with(claims.Check(auth.TokenKey{}, time.Now()).Error()))
	}
	want := auth.TokenKey{Host: db.IAMHost, Port: db.IAMPort, Region: db.IAMRegion, User: c.login.User}
	if err := claims.Check(want, time.Now()); err != nil {
		return fmt.Errorf("%w; wanted is one for %v", errIAM.with(err.Error()), want)
	}
	p := proof{database: db.Name, user: c.login.User, source: c.ticket.source}
	err = c.acceptor.proofs.prove(ctx, p, auth.Presented(text, claims))
	switch {
	case err == nil || ctx.Err() != nil || errors.As(err, new(*Error)):
		return err
	case refused(err):
		c.log(zapcore.WarnLevel, fmt.Sprintf("iam token of access key …%s refused: %s", claims.AccessKey, explained(err)))
		return errIAMRefused
	}
	// What the server said, or what is wrong with its certificate, is not for
	// somebody who may be anybody.
	c.log(zapcore.WarnLevel, fmt.Sprintf("iam token of access key …%s not proved: %s", claims.AccessKey, explained(err)))
	return fmt.Errorf("%w: %w", errIAMNotProved, err)
}

// explained is an error of a login to the server, and what to look at, for the log.
func explained(err error) string {
	s := printable(err.Error())
	if hint := backend.Explain(err).Hint; hint != "" {
		s += "; " + hint
	}
	return s
}
