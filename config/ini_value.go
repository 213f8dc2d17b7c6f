package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// The functions below read numbers as the C library does for PgBouncer, and
// return what TOML has for the same value.

// iniInteger is strtol with base 0: 0x20 is 32, and 020 is 16.
func iniInteger(s string) (any, error) {
	digits, sign := s, ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, digits = s[:1], s[1:]
	}
	base := 10
	switch lower := strings.ToLower(digits); {
	case strings.HasPrefix(lower, "0x"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	n, err := strconv.ParseInt(sign+digits, base, 64)
	if err != nil || digits == "" || digits[0] == '-' || digits[0] == '+' {
		return nil, wrong("an integer", s)
	}
	return n, nil
}

func iniBoolean(s string) (any, error) {
	n, err := iniInteger(s)
	if err != nil {
		return nil, wrong("0 or 1", s)
	}
	return n != int64(0), nil
}

// iniSeconds is strtod: there are no units.
func iniSeconds(s string) (any, error) {
	number := s
	if lower := strings.ToLower(s); strings.HasPrefix(strings.TrimLeft(lower, "+-"), "0x") && !strings.Contains(lower, "p") {
		number += "p0" // which Go wants
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || strings.Contains(s, "_") {
		return nil, wrong("a number of seconds, without a unit", s)
	}
	return f, nil
}

// atoi reads the number that s begins with, as a connection string is read;
// text without one is 0. whole is false if s goes on behind the number.
func atoi(s string) (n int64, whole bool, err error) {
	s = strings.TrimLeft(s, cSpaces)
	end := 0
	if s != "" && (s[0] == '-' || s[0] == '+') {
		end = 1
	}
	start := end
	for end < len(s) && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	if end == start {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(s[:end], 10, 32)
	if err != nil {
		return 0, false, errors.New("is out of range")
	}
	return n, end == len(s), nil
}
