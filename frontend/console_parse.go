package frontend

import (
	"strings"
)

// consoleStatement is one command of the console with its arguments.
type consoleStatement struct {
	command *consoleCommand
	text    string // as the client wrote it
	arg     string // what follows the command's name, unquoted; SET: the name
	value   string // of SET
	tag     string // for CommandComplete
}

// parse takes a query string apart. Comments and empty statements are left
// out, so that what drivers send to see whether a connection lives is empty.
func (c *Console) parse(sql string) ([]*consoleStatement, error) {
	var list []*consoleStatement
	for rest := sql; rest != ""; {
		text, tokens, after, ok := scanStatement(rest)
		rest = after
		if !ok {
			return nil, invalidCommand(text)
		}
		if len(tokens) == 0 {
			continue
		}
		st, ok := c.statement(tokens)
		if !ok {
			return nil, invalidCommand(text)
		}
		st.text = text
		list = append(list, st)
	}
	return list, nil
}

func invalidCommand(text string) *Error {
	return complaint("invalid command '" + printable(text) + "', use SHOW HELP;")
}

// statement looks up the command that tokens are, with its arguments.
func (c *Console) statement(tokens []token) (*consoleStatement, bool) {
	verb := strings.ToUpper(tokens[0].text)
	if tokens[0].kind != tokenWord {
		return nil, false
	}
	if verb == "SET" {
		return c.set(tokens)
	}
	st := &consoleStatement{}
	switch {
	case len(tokens) > 2:
		return nil, false
	case len(tokens) == 2:
		if k := tokens[1].kind; k != tokenWord && k != tokenQuoted {
			return nil, false
		}
		st.arg = tokens[1].text
	}
	if verb == "SHOW" || verb == "SELECT" {
		st.command = c.command("SHOW " + strings.ToUpper(st.arg))
		st.arg, st.tag = "", "SHOW"
		return st, st.command != nil
	}
	st.command = c.command(verb)
	if st.command == nil || st.arg != "" && st.command.args == "" {
		return nil, false
	}
	st.tag = verb
	return st, true
}

// set reads SET name = value and SET name TO value.
func (c *Console) set(tokens []token) (*consoleStatement, bool) {
	if len(tokens) < 4 || tokens[1].kind != tokenWord && tokens[1].kind != tokenQuoted {
		return nil, false
	}
	if by := tokens[2]; by.text != "=" && (by.kind != tokenWord || !strings.EqualFold(by.text, "to")) {
		return nil, false
	}
	var value strings.Builder
	for _, t := range tokens[3:] {
		value.WriteString(t.text)
	}
	return &consoleStatement{command: c.command("SET"), arg: tokens[1].text, value: value.String(), tag: "SET"}, true
}

func (c *Console) command(name string) *consoleCommand {
	for i := range c.commands {
		if c.commands[i].name == name {
			return &c.commands[i]
		}
	}
	return nil
}

// token is a word of a statement.
type token struct {
	kind tokenKind
	text string // without quotes
}

type tokenKind uint8

const (
	tokenWord    tokenKind = iota // letters, digits, underscores
	tokenQuoted                   // "name"
	tokenLiteral                  // 'text'
	tokenSymbol                   // any other character
)

// scanStatement reads the first statement of sql. text is the statement itself,
// rest what follows its semicolon; ok is false if a quote or a comment does not
// end.
func scanStatement(sql string) (text string, tokens []token, rest string, ok bool) {
	i := 0
	for i < len(sql) && sql[i] != ';' {
		switch c := sql[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			i++
		case strings.HasPrefix(sql[i:], "--"):
			end := strings.IndexAny(sql[i:], "\r\n")
			if end < 0 {
				end = len(sql) - i
			}
			i += end
		case strings.HasPrefix(sql[i:], "/*"):
			n := commentLength(sql[i:])
			if n < 0 {
				return strings.TrimSpace(sql), nil, "", false
			}
			i += n
		case c == '"' || c == '\'':
			s, n := unquote(sql[i:])
			if n < 0 {
				return strings.TrimSpace(sql), nil, "", false
			}
			kind := tokenQuoted
			if c == '\'' {
				kind = tokenLiteral
			}
			tokens = append(tokens, token{kind, s})
			i += n
		case wordByte(c):
			start := i
			for i < len(sql) && wordByte(sql[i]) {
				i++
			}
			tokens = append(tokens, token{tokenWord, sql[start:i]})
		default:
			tokens = append(tokens, token{tokenSymbol, sql[i : i+1]})
			i++
		}
	}
	return strings.TrimSpace(sql[:i]), tokens, sql[min(i+1, len(sql)):], true
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// unquote reads what stands in quotes at the beginning of s, where the quote
// itself is doubled. n is how long that is, -1 if it does not end.
func unquote(s string) (text string, n int) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] == quote {
			if i+1 == len(s) || s[i+1] != quote {
				return b.String(), i + 1
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return "", -1
}

// commentLength is how long the comment at the beginning of s is; it may have
// others inside. -1: it does not end.
func commentLength(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
