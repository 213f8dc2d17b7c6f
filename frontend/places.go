package frontend

import (
	"maps"
	"sync"
)

// places counts the clients of each database and of each user, for
// max_db_client_connections and max_user_client_connections.
type places struct {
	mu        sync.Mutex // guards the fields below, and every count
	databases map[string]int
	users     map[string]int
	pairs     map[placeKey]*placesOf
}

type placeKey struct {
	database, user string
	console        bool
}

// placesOf is the clients of one user and database. They share a function that gives
// a place back, because each of them keeps it.
type placesOf struct {
	count   int
	release func()
}

func (p *places) init() {
	p.databases, p.users, p.pairs = make(map[string]int), make(map[string]int), make(map[placeKey]*placesOf)
}

// Connected returns how many clients each database and each user has. The
// console counts as the database that it is.
func (a *Acceptor) Connected() (databases, users map[string]int) {
	p := &a.places
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.databases), maps.Clone(p.users)
}

// roomFor is why a client may not come in, nil if it may. A client that may
// change settings on the console is not held up by any.
func (c *client) roomFor() error {
	p := &c.acceptor.places
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.room()
}

// room is roomFor with mu held.
func (c *client) room() error {
	l, p := &c.login, &c.acceptor.places
	inDatabase := c.cfg.MaxDBClientConnections
	if l.Console {
		if admin, _ := consoleRights(c.cfg, l); admin {
			return nil
		}
	} else if db := c.cfg.Database(l.database); db != nil {
		inDatabase = c.cfg.MaxDBClientConnectionsFor(db)
	}
	ofUser := 0
	if l.User != "" { // else it is passed through, and nobody knows who it is
		ofUser = c.cfg.MaxUserClientConnectionsFor(l.User)
	}
	switch {
	case inDatabase > 0 && p.databases[l.database] >= inDatabase:
		return errTooManyOfDatabase
	case ofUser > 0 && p.users[l.User] >= ofUser:
		return errTooManyOfUser
	}
	return nil
}

// takeRoom counts a client that has proved who it is, or is passed through. Its Login.Release gives
// back its place under these limits, and under max_client_conn.
func (c *client) takeRoom() error {
	l, p := &c.login, &c.acceptor.places
	k := placeKey{l.database, l.User, l.Console}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := c.room(); err != nil {
		return err
	}
	n := p.pairs[k]
	if n == nil {
		under := l.Release // the same for all of them
		n = &placesOf{release: func() {
			p.leave(k)
			under()
		}}
		p.pairs[k] = n
	}
	n.count++
	p.databases[k.database]++
	p.users[k.user]++
	l.Release = n.release
	return nil
}

func (p *places) leave(k placeKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.pairs[k]; n.count > 1 {
		n.count--
	} else {
		delete(p.pairs, k)
	}
	decrement(p.databases, k.database)
	decrement(p.users, k.user)
}

func decrement(of map[string]int, name string) {
	if of[name]--; of[name] == 0 {
		delete(of, name)
	}
}
