package frontend

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// raw connects to the console as root and returns the bare protocol.
func (f *consoleFixture) raw(t testing.TB) (*pgproto3.Frontend, net.Conn) {
	t.Helper()
	conn, err := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol).PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Conn.Close() })
	conn.Conn.SetDeadline(time.Now().Add(testTimeout))
	return pgproto3.NewFrontend(conn.Conn, conn.Conn), conn.Conn
}

// replies reads n messages, fewer if the connection ends.
func replies(t testing.TB, front *pgproto3.Frontend, n int) []string {
	t.Helper()
	var list []string
	for range n {
		m, err := front.Receive()
		if err != nil {
			if err.Error() != io.ErrUnexpectedEOF.Error() {
				list = append(list, err.Error())
			}
			return append(list, "EOF")
		}
		line := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			line = fmt.Sprintf("%s %s %s", m.Severity, m.Code, m.Message)
		case *pgproto3.CommandComplete:
			line += " " + string(m.CommandTag)
		case *pgproto3.DataRow:
			line += fmt.Sprintf(" %q", m.Values)
		case *pgproto3.ParameterDescription:
			line += fmt.Sprint(" ", m.ParameterOIDs)
		case *pgproto3.RowDescription:
			for _, fd := range m.Fields {
				line += fmt.Sprintf(" %s:%d:%d", fd.Name, fd.DataTypeSize, fd.Format)
			}
		}
		list = append(list, line)
	}
	return list
}

func TestConsoleExtendedProtocol(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	const ready = "ReadyForQuery"
	show := &pgproto3.Parse{Query: "SHOW STATE"}
	bind, run, sync := &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}
	for _, tt := range []struct {
		name string
		send []pgproto3.FrontendMessage
		want []string
	}{
		{
			"binary, described",
			[]pgproto3.FrontendMessage{
				&pgproto3.Parse{Name: "s", Query: "SHOW LISTS"}, &pgproto3.Describe{ObjectType: 'S', Name: "s"},
				&pgproto3.Bind{PreparedStatement: "s", DestinationPortal: "p", ResultFormatCodes: []int16{0, 1}},
				&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 1}, sync,
			},
			[]string{
				"ParseComplete", "ParameterDescription []", "RowDescription list:-1:0 items:4:0", "BindComplete", "RowDescription list:-1:0 items:4:1",
				`DataRow ["databases" "\x00\x00\x00\x03"]`, "PortalSuspended", ready,
			},
		},
		{
			"a portal in parts",
			[]pgproto3.FrontendMessage{show, bind, &pgproto3.Execute{MaxRows: 2}, &pgproto3.Execute{MaxRows: 1}, run, sync},
			[]string{
				"ParseComplete", "BindComplete", `DataRow ["active" "yes"]`, `DataRow ["paused" "no"]`, "PortalSuspended", `DataRow ["suspended" "no"]`,
				"CommandComplete SHOW", `ERROR 55000 portal "" cannot be run`, ready,
			},
		},
		{
			"no rows",
			[]pgproto3.FrontendMessage{
				&pgproto3.Parse{Query: "RECONNECT"}, &pgproto3.Describe{ObjectType: 'S'}, bind, &pgproto3.Describe{ObjectType: 'P'}, run, &pgproto3.Flush{}, sync,
			},
			[]string{"ParseComplete", "ParameterDescription []", "NoData", "BindComplete", "NoData", "CommandComplete RECONNECT", ready},
		},
		{
			"nothing",
			[]pgproto3.FrontendMessage{&pgproto3.Parse{Query: ";"}, &pgproto3.Describe{ObjectType: 'S'}, bind, run, sync},
			[]string{"ParseComplete", "ParameterDescription []", "NoData", "BindComplete", "EmptyQueryResponse", ready},
		},
		{
			"an error ends the batch",
			[]pgproto3.FrontendMessage{
				&pgproto3.Parse{Query: "SHOW MEMORY"}, bind, run, &pgproto3.Query{String: "SHOW STATE"}, &pgproto3.Close{ObjectType: 'S'}, sync, show, sync,
			},
			[]string{"ERROR 08P01 invalid command 'SHOW MEMORY', use SHOW HELP;", ready, "ParseComplete", ready},
		},
		{
			"two in one",
			[]pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SHOW STATE; RELOAD"}, sync},
			[]string{"ERROR 42601 cannot insert multiple commands into a prepared statement", ready},
		},
		{
			"portals end with the batch",
			[]pgproto3.FrontendMessage{show, bind, sync, run, sync},
			[]string{"ParseComplete", "BindComplete", ready, `ERROR 34000 portal "" does not exist`, ready},
		},
		{
			"a query ends the unnamed statement",
			[]pgproto3.FrontendMessage{show, sync, &pgproto3.Query{}, bind, sync},
			[]string{"ParseComplete", ready, "EmptyQueryResponse", ready, "ERROR 26000 unnamed prepared statement does not exist", ready},
		},
		{
			"names",
			[]pgproto3.FrontendMessage{
				&pgproto3.Bind{PreparedStatement: "no"}, sync,
				&pgproto3.Describe{ObjectType: 'S', Name: "no"}, sync,
				&pgproto3.Describe{ObjectType: 'P', Name: "no"}, sync,
				&pgproto3.Parse{Name: "x", Query: "SHOW STATE"}, &pgproto3.Parse{Name: "x", Query: "SHOW STATE"}, sync,
				&pgproto3.Bind{PreparedStatement: "x", DestinationPortal: "y"}, &pgproto3.Bind{PreparedStatement: "x", DestinationPortal: "y"}, sync,
				&pgproto3.Close{ObjectType: 'S', Name: "x"}, &pgproto3.Close{ObjectType: 'P', Name: "y"}, &pgproto3.Bind{PreparedStatement: "x"}, sync,
			},
			[]string{
				`ERROR 26000 prepared statement "no" does not exist`, ready,
				`ERROR 26000 prepared statement "no" does not exist`, ready,
				`ERROR 34000 portal "no" does not exist`, ready,
				"ParseComplete", `ERROR 42P05 prepared statement "x" already exists`, ready,
				"BindComplete", `ERROR 42P03 portal "y" already exists`, ready,
				"CloseComplete", "CloseComplete", `ERROR 26000 prepared statement "x" does not exist`, ready,
			},
		},
		{
			"parameters and formats",
			[]pgproto3.FrontendMessage{
				show, &pgproto3.Bind{Parameters: [][]byte{nil}}, sync,
				show, &pgproto3.Bind{ResultFormatCodes: []int16{0, 0, 0}}, sync,
				show, &pgproto3.Bind{ResultFormatCodes: []int16{2}}, sync,
			},
			[]string{
				"ParseComplete", `ERROR 08P01 bind message supplies 1 parameters, but prepared statement "" requires 0`, ready,
				"ParseComplete", "ERROR 08P01 bind message has 3 result formats but query has 2 columns", ready,
				"ParseComplete", "ERROR 22023 unsupported format code: 2", ready,
			},
		},
		{
			"late for a COPY",
			[]pgproto3.FrontendMessage{&pgproto3.CopyData{}, &pgproto3.CopyDone{}, &pgproto3.CopyFail{}, sync},
			[]string{ready},
		},
		{
			"goodbye",
			[]pgproto3.FrontendMessage{&pgproto3.Terminate{}, sync},
			[]string{"EOF"},
		},
		{
			"another kind of message",
			[]pgproto3.FrontendMessage{&pgproto3.FunctionCall{}, sync},
			[]string{"FATAL 08P01 bad packet: the console does not know *pgproto3.FunctionCall", "EOF"},
		},
		{
			"a message that is too long",
			[]pgproto3.FrontendMessage{&pgproto3.Query{String: strings.Repeat(";", maxConsoleMessage)}},
			[]string{"FATAL 54000 message of 65537 bytes is too long for the console", "EOF"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			front, _ := f.raw(t)
			for _, m := range tt.send {
				front.Send(m)
			}
			if err := front.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := replies(t, front, len(tt.want)); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

func TestConsoleBoundsStatements(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	front, _ := f.raw(t)
	for i := range maxConsoleStatements + 1 {
		front.Send(&pgproto3.Parse{Name: fmt.Sprint(i), Query: "SHOW STATE"})
	}
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	list := replies(t, front, maxConsoleStatements+1)
	if got := list[maxConsoleStatements]; got != "ERROR 54000 too many prepared statements for the console" || list[maxConsoleStatements-1] != "ParseComplete" {
		t.Errorf("the last replies are %q", list[maxConsoleStatements-1:])
	}
}
