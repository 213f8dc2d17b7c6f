package frontend

import (
	"errors"
	"time"

	"github.com/pgvalet/pgvalet/auth"
)

// tokenCommands are the tables about IAM, which PgBouncer does not have.
func tokenCommands() []consoleCommand {
	return []consoleCommand{
		{
			name: "SHOW TOKENS", rows: (*Console).showTokens,
			columns: columnsOf("service host port:i region user profile role_arn access_key age:i expires_in:i refresh_in:i served:i state error"),
			help: "One row for each IAM token: what it is signed for, the end of the ID of the access key that signed it, its age and what is left of it in seconds, " +
				"how many logins have got it, and why the last attempt to sign one failed. `state` is valid, signing (there is none yet), or none. The tokens themselves are never shown.",
		},
		{
			name: "SHOW CREDENTIALS", rows: (*Console).showCredentials,
			columns: columnsOf("profile role_arn external_id session_name source access_key age:i expires_in:i renewals:i errors:i cause error"),
			help: "One row for each set of AWS credentials: the settings that choose it, where it comes from, its age and what is left of it in seconds (NULL: it never expires), " +
				"how often it was renewed and could not be, and why not the last time. Keys are never shown but for the end of their ID.",
		},
	}
}

func (c *Console) showTokens() [][]any {
	source := c.o.Pools.Tokens()
	if source == nil {
		return nil
	}
	var rows [][]any
	now := time.Now()
	for _, t := range source.Tokens() {
		row := []any{
			t.Key.Service.String(), t.Key.Host, t.Key.Port, t.Key.Region, t.Key.User, t.Key.Credentials.Profile, t.Key.Credentials.RoleARN, t.AccessKey,
			nil, nil, nil, t.Served, "none", whyNot(t.Err),
		}
		if !t.Signed.IsZero() {
			row[8], row[9], row[10] = wholeSeconds(now.Sub(t.Signed)), wholeSeconds(t.Expires.Sub(now)), wholeSeconds(t.RefreshAt.Sub(now))
		}
		switch {
		case now.Before(t.Expires):
			row[12] = "valid"
		case t.Signing:
			row[12] = "signing"
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *Console) showCredentials() [][]any {
	source := c.o.Pools.Tokens()
	if source == nil {
		return nil
	}
	var rows [][]any
	now := time.Now()
	for _, i := range source.Credentials() {
		row := []any{
			i.Key.Profile, i.Key.RoleARN, i.Key.ExternalID, i.Key.SessionName, i.Source, i.AccessKey,
			nil, nil, i.Renewals, i.Errors, "", whyNot(i.Err),
		}
		if !i.Retrieved.IsZero() {
			row[6] = wholeSeconds(now.Sub(i.Retrieved))
		}
		if !i.Expires.IsZero() {
			row[7] = wholeSeconds(i.Expires.Sub(now))
		}
		if e, ok := errors.AsType[*auth.CredentialError](i.Err); ok {
			row[10] = e.Cause.String()
		}
		rows = append(rows, row)
	}
	return rows
}

// wholeSeconds is a duration for a column; what is over is 0.
func wholeSeconds(d time.Duration) int { return max(0, int(d/time.Second)) }

func whyNot(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
