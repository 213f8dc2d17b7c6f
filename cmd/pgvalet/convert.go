package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/pgvalet/pgvalet/config"
)

const convertUsage = "usage: pgvalet convert [-o FILE] pgbouncer.ini"

// convert writes PgBouncer's configuration as TOML. The passwords in it go with
// it, so a new file is for its owner only.
func convert(args []string, stdout, stderr io.Writer) error {
	flags := pflag.NewFlagSet("convert", pflag.ContinueOnError)
	flags.Usage = func() {}
	output := flags.StringP("output", "o", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return errors.New(convertUsage)
	}
	c, err := config.Load(flags.Arg(0))
	if err != nil {
		return err
	}
	if !c.INI {
		return fmt.Errorf("%s is TOML already", flags.Arg(0))
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(stderr, w)
	}
	var b bytes.Buffer
	if err := c.WriteTOML(&b); err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	if *output == "" {
		if _, err := stdout.Write(b.Bytes()); err != nil {
			return err
		}
	} else if err := os.WriteFile(*output, b.Bytes(), 0o600); err != nil {
		return err
	}
	// In TOML some things are refused that PgBouncer takes.
	name := *output
	if name == "" {
		name = "pgvalet.toml"
	}
	if _, err := config.Parse(name, b.Bytes()); err != nil {
		return fmt.Errorf("what was written is yet to be put right:\n%w", err)
	}
	return nil
}
