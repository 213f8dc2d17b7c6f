package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRounds(t *testing.T) {
	b := &bench{options: &options{rounds: 3}, out: io.Discard}
	var calls []string
	name := func(s string) string { return s }
	samples, err := rounds(t.Context(), b, "x", []string{"a", "b", "c"}, name,
		func(_ context.Context, s string, round int) (figures, error) {
			calls = append(calls, s)
			return figures{"round": float64(round)}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	// The warm-up, then each is first once.
	if got, want := strings.Join(calls, ""), "abc"+"bca"+"cab"+"abc"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if len(samples) != 9 {
		t.Fatalf("%d samples: the warm-up counts?", len(samples))
	}
	for _, s := range samples {
		if s.Figures["round"] != float64(s.Round) || s.Round == 0 {
			t.Errorf("%+v", s)
		}
	}
	if first := samples[0]; first.Target != "b" || first.Turn != 1 || first.Round != 1 {
		t.Errorf("%+v", first)
	}
}

func TestRoundsEndWithAnError(t *testing.T) {
	b := &bench{options: &options{rounds: 3, smoke: true}, out: io.Discard}
	broken := errors.New("broken")
	calls := 0
	_, err := rounds(t.Context(), b, "x", []string{"a", "b"}, func(s string) string { return s },
		func(context.Context, string, int) (figures, error) {
			calls++
			return nil, broken
		})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "x, b: ") || calls != 1 {
		t.Errorf("%v after %d", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rounds(ctx, b, "x", []string{"a"}, func(s string) string { return s },
		func(context.Context, string, int) (figures, error) { return nil, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
