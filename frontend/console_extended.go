package frontend

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// consolePortal is a bound statement.
type consolePortal struct {
	statement *consoleStatement // nil: an empty query
	formats   []int16           // of the columns, one for each; nil: all text
	started   bool
	rows      [][]any // those not sent yet
}

// columns returns what the portal returns, nil for no rows.
func (p *consolePortal) columns() []column { return p.statement.columns() }

func (st *consoleStatement) columns() []column {
	if st == nil {
		return nil
	}
	return st.command.columns
}

// extended answers one message of the extended protocol.
func (s *consoleSession) extended(m pgproto3.FrontendMessage) error {
	switch m := m.(type) {
	case *pgproto3.Parse:
		return s.prepare(m)
	case *pgproto3.Bind:
		return s.bind(m)
	case *pgproto3.Describe:
		return s.describe(m)
	case *pgproto3.Execute:
		return s.executePortal(m)
	case *pgproto3.Close:
		if m.ObjectType == 'S' {
			delete(s.statements, m.Name)
			s.countPrepared()
		} else {
			delete(s.portals, m.Name)
		}
		s.backend.Send(&pgproto3.CloseComplete{})
		return nil
	case *pgproto3.Flush:
		return nil // everything is flushed anyway
	}
	return fmt.Errorf("the console does not know %T", m)
}

func (s *consoleSession) prepare(m *pgproto3.Parse) error {
	if _, taken := s.statements[m.Name]; taken && m.Name != "" {
		return failure("42P05", fmt.Sprintf("prepared statement %q already exists", m.Name))
	}
	list, err := s.console.parse(m.Query)
	switch {
	case err != nil:
		return err
	case len(list) > 1:
		return failure("42601", "cannot insert multiple commands into a prepared statement")
	case len(s.statements) >= maxConsoleStatements:
		return failure("54000", "too many prepared statements for the console")
	}
	var st *consoleStatement
	if len(list) == 1 {
		st = list[0]
	}
	s.statements[m.Name] = st
	s.countPrepared()
	s.backend.Send(&pgproto3.ParseComplete{})
	return nil
}

func (s *consoleSession) countPrepared() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared = len(s.statements)
}

func (s *consoleSession) statement(name string) (*consoleStatement, error) {
	st, ok := s.statements[name]
	switch {
	case ok:
		return st, nil
	case name == "":
		return nil, failure("26000", "unnamed prepared statement does not exist")
	}
	return nil, failure("26000", fmt.Sprintf("prepared statement %q does not exist", name))
}

func (s *consoleSession) portal(name string) (*consolePortal, error) {
	if p := s.portals[name]; p != nil {
		return p, nil
	}
	return nil, failure("34000", fmt.Sprintf("portal %q does not exist", name))
}

func (s *consoleSession) bind(m *pgproto3.Bind) error {
	st, err := s.statement(m.PreparedStatement)
	if err != nil {
		return err
	}
	if n := len(m.Parameters); n > 0 {
		return failure("08P01", fmt.Sprintf("bind message supplies %d parameters, but prepared statement %q requires 0", n, m.PreparedStatement))
	}
	if m.DestinationPortal != "" && s.portals[m.DestinationPortal] != nil {
		return failure("42P03", fmt.Sprintf("portal %q already exists", m.DestinationPortal))
	}
	if len(s.portals) >= maxConsoleStatements {
		return failure("54000", "too many portals for the console")
	}
	p := &consolePortal{statement: st}
	if p.formats, err = columnFormats(m.ResultFormatCodes, len(p.columns())); err != nil {
		return err
	}
	s.portals[m.DestinationPortal] = p
	s.backend.Send(&pgproto3.BindComplete{})
	return nil
}

// columnFormats gives each of n columns the format that a Bind asks for.
func columnFormats(codes []int16, n int) ([]int16, error) {
	if n == 0 || len(codes) == 0 {
		return nil, nil
	}
	if len(codes) != 1 && len(codes) != n {
		return nil, failure("08P01", fmt.Sprintf("bind message has %d result formats but query has %d columns", len(codes), n))
	}
	formats := make([]int16, n)
	for i := range formats {
		formats[i] = codes[i%len(codes)]
		if formats[i] != pgproto3.TextFormat && formats[i] != pgproto3.BinaryFormat {
			return nil, failure("22023", fmt.Sprintf("unsupported format code: %d", formats[i]))
		}
	}
	return formats, nil
}

func (s *consoleSession) describe(m *pgproto3.Describe) error {
	var columns []column
	var formats []int16
	if m.ObjectType == 'S' {
		st, err := s.statement(m.Name)
		if err != nil {
			return err
		}
		s.backend.Send(&pgproto3.ParameterDescription{})
		columns = st.columns()
	} else {
		p, err := s.portal(m.Name)
		if err != nil {
			return err
		}
		columns, formats = p.columns(), p.formats
	}
	if columns == nil {
		s.backend.Send(&pgproto3.NoData{})
	} else {
		s.backend.Send(rowDescription(columns, formats))
	}
	return nil
}

func (s *consoleSession) executePortal(m *pgproto3.Execute) error {
	p, err := s.portal(m.Portal)
	if err != nil {
		return err
	}
	if p.statement == nil {
		s.backend.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	switch {
	case !p.started:
		p.started = true
		if p.rows, err = s.execute(p.statement); err != nil {
			return err
		}
	case len(p.rows) == 0:
		return failure("55000", fmt.Sprintf("portal %q cannot be run", m.Portal))
	}
	for n := uint32(1); len(p.rows) > 0; n++ {
		s.backend.Send(dataRow(p.columns(), p.formats, p.rows[0]))
		p.rows = p.rows[1:]
		if n == m.MaxRows && len(p.rows) > 0 {
			s.backend.Send(&pgproto3.PortalSuspended{})
			return nil
		}
	}
	s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte(p.statement.tag)})
	return nil
}
