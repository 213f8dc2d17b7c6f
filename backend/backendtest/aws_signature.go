package backendtest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// caller says whose signature a request of a form carries, or the error code
// and the reason why AWS would not take it. The signature is recomputed from
// the specification of AWS Signature Version 4 (Authorization header).
func (a *AWS) caller(r *http.Request, service string, now time.Time) (key AccessKey, code, why string) {
	const algorithm = sigAlgorithm + " "
	header := r.Header.Get("Authorization")
	if !strings.HasPrefix(header, algorithm) {
		return key, "MissingAuthenticationToken", "Request is missing Authentication Token"
	}
	fields := make(map[string]string)
	for part := range strings.SplitSeq(header[len(algorithm):], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	parts := strings.Split(scope, "/") // date/region/service/aws4_request
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(amzDateFormat, date)
	if err != nil || len(parts) != 4 || parts[0] != date[:8] || parts[2] != service || parts[3] != "aws4_request" {
		return key, "SignatureDoesNotMatch", "Credential should be scoped to a valid region and service"
	}
	a.mu.Lock()
	key, known := a.keys[id]
	a.mu.Unlock()
	now = now.UTC()
	switch age := now.Sub(at); {
	case !known || key.Revoked:
		return key, "InvalidClientTokenId", "The security token included in the request is invalid."
	case subtle.ConstantTimeCompare([]byte(key.SessionToken), []byte(r.Header.Get("X-Amz-Security-Token"))) != 1:
		return key, "InvalidClientTokenId", "The security token included in the request is invalid"
	case !key.Expires.IsZero() && !now.Before(key.Expires):
		return key, "ExpiredToken", "The security token included in the request is expired"
	case age > tokenMaxAge:
		return key, "SignatureDoesNotMatch", fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 15 min.)",
			date, now.Add(-tokenMaxAge).Format(amzDateFormat), now.Format(amzDateFormat))
	case age < -tokenMaxSkew:
		return key, "SignatureDoesNotMatch", fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			date, now.Add(tokenMaxSkew).Format(amzDateFormat), now.Format(amzDateFormat))
	}

	names := strings.Split(fields["SignedHeaders"], ";")
	if !slices.Contains(names, "host") {
		return key, "SignatureDoesNotMatch", "'Host' must be a 'SignedHeader'"
	}
	var headers strings.Builder
	for _, n := range names {
		value := strings.TrimSpace(r.Header.Get(n))
		if n == "host" {
			value = r.Host
		}
		if n == "content-length" {
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		headers.WriteString(n + ":" + value + "\n")
	}
	body := sha256.Sum256([]byte(r.Context().Value(bodyKey{}).(string)))
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n" + headers.String() + "\n" +
		fields["SignedHeaders"] + "\n" + hex.EncodeToString(body[:])
	hash := sha256.Sum256([]byte(canonical))
	secret := []byte("AWS4" + key.Secret)
	for _, p := range parts {
		secret = hmacSHA256(secret, p)
	}
	want := hmacSHA256(secret, sigAlgorithm+"\n"+date+"\n"+scope+"\n"+hex.EncodeToString(hash[:]))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(want)), []byte(fields["Signature"])) != 1 {
		return key, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."
	}
	return key, "", ""
}

// bodyKey is the key of a request's body in its context: a form is read before
// the signature is looked at.
type bodyKey struct{}
