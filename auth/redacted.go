package auth

import "fmt"

const redactedText = "[redacted]"

// redacted is embedded by types whose value must not be printed.
type redacted struct{}

// Format implements fmt.Formatter, which comes before every other interface
// that fmt knows.
func (redacted) Format(f fmt.State, _ rune) { fmt.Fprint(f, redactedText) }

func (redacted) String() string { return redactedText }

// MarshalText makes encoders (encoding/json, zap's reflection) print it redacted.
func (redacted) MarshalText() ([]byte, error) { return []byte(redactedText), nil }
