package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Results is all that one invocation has measured, as it is kept in JSON.
type Results struct {
	Date     time.Time         `json:"date"`
	Command  []string          `json:"command"`
	Commit   string            `json:"commit"` // of the working directory; ends in "-dirty" if it differs
	Machine  Machine           `json:"machine"`
	Programs map[string]string `json:"programs"` // name to version
	Settings map[string]string `json:"settings"` // program to what it was configured with, without secrets
	Rounds   int               `json:"rounds"`
	Seconds  int               `json:"seconds"`
	Suites   []SuiteResult     `json:"suites"`
}

// Machine is what it was measured on.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	Kernel    string `json:"kernel"`
	MemoryMiB int64  `json:"memory_mib"`
}

// SuiteResult is one suite's. Error says why it is not complete.
type SuiteResult struct {
	Name  string   `json:"name"`
	Cases []Case   `json:"cases"`
	Notes []string `json:"notes,omitempty"`
	Error string   `json:"error,omitempty"`
}

func (r *SuiteResult) add(c Case) { r.Cases = append(r.Cases, c) }

func (r *SuiteResult) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Case is one thing that was measured for every target, in rounds.
type Case struct {
	Name    string   `json:"name"`
	Variant string   `json:"variant"` // "plain" or "tls"
	Plot    bool     `json:"plot,omitempty"`
	Samples []Sample `json:"samples"`
}

// Sample is one run. Figures are by key; the unit is in the key.
type Sample struct {
	Round   int     `json:"round"` // from 1
	Turn    int     `json:"turn"`  // in its round, from 1
	Target  string  `json:"target"`
	Figures figures `json:"figures"`
}

// targets returns the names of a case's targets, in the order of targetOrder.
func (c Case) targets() []string {
	var names []string
	for _, name := range targetOrder {
		for _, s := range c.Samples {
			if s.Target == name {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

func (r *Results) write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func readResults(path string) (*Results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Results)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
