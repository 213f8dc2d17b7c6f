package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// ldapTimeout bounds each step with an LDAP server: a connection, an answer.
const ldapTimeout = 5 * time.Second

// Authenticate asks the LDAP servers, in turn until one answers, whether
// password is that of user. It blocks, at most as long as ctx lives. ldapTLS says
// how certificates of servers are verified.
func (l *LDAP) Authenticate(ctx context.Context, user, password string) error {
	if password == "" || user == "" {
		return errors.New("ldap: an empty password") // which a server takes for nobody's, and lets in
	}
	var errs []error
	for _, u := range l.o.urls() {
		conn, stop, err := l.o.dial(ctx, u)
		if err != nil {
			errs = append(errs, fmt.Errorf("ldap: %s: %w", u, err))
			continue
		}
		err = l.o.login(conn, user, password)
		stop()
		conn.Close()
		if err != nil {
			return fmt.Errorf("ldap: %s: %w", u, err)
		}
		return nil
	}
	return errors.Join(errs...)
}

// dial opens a connection, which ctx breaks until stop is called.
func (o *ldapOptions) dial(ctx context.Context, address string) (conn *ldap.Conn, stop func() bool, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	verify, err := ldapTLS(u.Hostname())
	if err != nil {
		return nil, nil, err
	}
	d := &net.Dialer{Timeout: ldapTimeout}
	d.Deadline, _ = ctx.Deadline()
	if conn, err = ldap.DialURL(address, ldap.DialWithDialer(d), ldap.DialWithTLSConfig(verify)); err != nil {
		return nil, nil, err
	}
	conn.SetTimeout(ldapTimeout)
	stop = context.AfterFunc(ctx, func() { conn.Close() })
	if o.startTLS {
		if err := conn.StartTLS(verify); err != nil {
			stop()
			conn.Close()
			return nil, nil, err
		}
	}
	return conn, stop, nil
}

// login binds as the user, whose name is made up or looked for.
func (o *ldapOptions) login(conn *ldap.Conn, user, password string) error {
	if o.baseDN == "" {
		if strings.ContainsAny(user, ",+\"\\<>;=#\x00") { // it would name somebody else
			return errors.New("the user has characters that mean something in a DN")
		}
		return conn.Bind(o.prefix+user+o.suffix, password)
	}
	if o.bindDN != "" || o.bindPassword != "" {
		if err := conn.Bind(o.bindDN, o.bindPassword); err != nil {
			return fmt.Errorf("bind as ldapbinddn: %w", err)
		}
	}
	found, err := conn.Search(ldap.NewSearchRequest(o.baseDN, o.scope, ldap.NeverDerefAliases, 2, int(ldapTimeout.Seconds()), false,
		o.filterFor(user), []string{"1.1"}, nil)) // no attributes
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	if len(found.Entries) != 1 {
		return fmt.Errorf("search: %d entries for the user", len(found.Entries))
	}
	return conn.Bind(found.Entries[0].DN, password)
}

// filterFor is what to search for. Nothing in the user's name means anything in
// it.
func (o *ldapOptions) filterFor(user string) string {
	user = ldap.EscapeFilter(user)
	switch {
	case o.filter == "" && o.attribute == "":
		return "(uid=" + user + ")"
	case o.filter == "":
		return "(" + o.attribute + "=" + user + ")"
	}
	filter := strings.ReplaceAll(o.filter, "$username", user)
	if !strings.HasPrefix(filter, "(") {
		filter = "(" + filter + ")"
	}
	return filter
}
