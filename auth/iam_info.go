package auth

import (
	"cmp"
	"slices"
	"time"
)

// TokenInfo is the state of one token, without the token.
type TokenInfo struct {
	Key       TokenKey
	AccessKey string    // the end of the ID of the key that signed it
	Signed    time.Time // zero: there is none
	Expires   time.Time
	RefreshAt time.Time
	Signing   bool
	Served    uint64 // how often it was handed out
	Err       error  // of the last signing; nil: it went well
}

// CredentialInfo is the state of the credentials of one CredentialKey, without
// the credentials.
type CredentialInfo struct {
	Key       CredentialKey
	Source    string // in words; "": never loaded
	RoleARN   string // "": none, or not known
	AccessKey string // the end of its ID
	Retrieved time.Time
	Expires   time.Time // zero: never
	Renewals  uint64    // how often there were new ones
	Errors    uint64    // how often there were none
	Err       error     // of the last time they were asked for; nil: it went well
}

// Tokens returns the state of all tokens, by host and user.
func (s *TokenSource) Tokens() []TokenInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]TokenInfo, 0, len(s.entries))
	for k, e := range s.entries {
		i := TokenInfo{Key: k, RefreshAt: e.refreshAt, Signing: e.signing != nil, Served: e.served, Err: e.err}
		if t := e.token.v; t != nil {
			i.AccessKey, i.Signed, i.Expires = t.key, t.signed, t.expires
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b TokenInfo) int {
		return cmp.Or(cmp.Compare(a.Key.Host, b.Key.Host), cmp.Compare(a.Key.Port, b.Key.Port), cmp.Compare(a.Key.User, b.Key.User),
			a.Key.Credentials.compare(b.Key.Credentials))
	})
	return list
}

// Credentials returns the state of all credentials, by profile and role.
func (s *TokenSource) Credentials() []CredentialInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]CredentialInfo, 0, len(s.chains))
	for k, c := range s.chains {
		i := CredentialInfo{Key: k, AccessKey: keyEnd(c.last.AccessKeyID), Retrieved: c.retrievedAt, Renewals: c.retrieved, Errors: c.failed, Err: c.err}
		if c.last.CanExpire {
			i.Expires = c.last.Expires
		}
		if c.loaded != nil {
			i.Source, i.RoleARN = c.loaded.source, c.loaded.role
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b CredentialInfo) int { return a.Key.compare(b.Key) })
	return list
}

// Retrieve makes sure that there are credentials for k, and returns their state.
// It takes as long as AWS does, but no more than 15 seconds. region is for STS,
// if nothing else names one.
func (s *TokenSource) Retrieve(k CredentialKey, region string) (CredentialInfo, error) {
	if _, err := s.credentials(k, region); err != nil {
		return CredentialInfo{}, err
	}
	list := s.Credentials()
	return list[slices.IndexFunc(list, func(i CredentialInfo) bool { return i.Key == k })], nil
}

func (k CredentialKey) compare(o CredentialKey) int {
	return cmp.Or(cmp.Compare(k.Profile, o.Profile), cmp.Compare(k.RoleARN, o.RoleARN),
		cmp.Compare(k.ExternalID, o.ExternalID), cmp.Compare(k.SessionName, o.SessionName))
}
