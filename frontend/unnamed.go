package frontend

// unnamedStatement is what is known of the client's unnamed statement. Some
// drivers prepare it in one transaction and use it in the next, when another
// server may have the client: then its Parse message is needed again. Most use
// it at once, and nothing is copied. A client that has never prepared one has
// none, and what follows may be called all the same.
type unnamedStatement struct {
	number  uint64 // what servers that hold it know it by; 0: there is none
	seen    []byte // the Parse message, in the buffer that is being read; nil once it has been used
	kept    []byte // a copy
	copying bool   // the message is longer than a buffer: carry adds to kept
	long    bool   // … and nothing has used the statement in the batch of its Parse

	deallocates string // see preparedName
}

// parsed notes a Parse message of n bytes, of which m is here.
func (u *unnamedStatement) parsed(n int, m []byte) {
	if cap(u.kept) > maxQueued {
		u.kept = nil
	}
	u.kept = u.kept[:0]
	u.seen, u.copying, u.long = m, false, false
	u.deallocates = ""
	if len(m) < n {
		u.kept = append(u.kept, m...)
		u.seen, u.copying, u.long = nil, true, true
	}
}

// bound notes that a Bind has used the statement: at once, in the batch of its
// Parse, it is most likely the only one.
func (u *unnamedStatement) bound() {
	if u == nil {
		return
	}
	u.seen = nil
	if u.long {
		u.kept, u.long = nil, false
	}
}

// synced notes the end of a batch.
func (u *unnamedStatement) synced() {
	if u != nil {
		u.long = false
	}
}

// forget notes that there is no unnamed statement any more.
func (u *unnamedStatement) forget() {
	if u != nil {
		*u = unnamedStatement{}
	}
}

// carry takes more bytes of the message at hand, of which left are to come.
func (u *unnamedStatement) carry(p []byte, left int) {
	if u != nil && u.copying {
		u.kept = append(u.kept, p...)
		u.copying = left > 0
	}
}

// keep copies the message, if nothing has used it, before the buffer goes.
func (u *unnamedStatement) keep() {
	if u != nil && u.seen != nil {
		u.kept = append(u.kept[:0], u.seen...)
		u.seen = nil
	}
}

// unnamedName is serverName for the unnamed statement, of which a server has
// only one: it may be another client's.
func (s *session) unnamedName() (to string, rewrite bool) {
	if !s.sharing() {
		return "", false
	}
	if u := s.unnamed; u != nil {
		if s.srv.HasUnnamed(u.number) {
			return "", false
		}
		u.keep()
		if len(u.kept) > 0 {
			s.srv.InjectUnnamed(&s.w.toServer, u.kept, u.number)
			return "", false
		}
	}
	return "unnamed statement of an earlier transaction", true // does not exist: 26000
}
