package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func pools(columns string, rows ...string) *pgconn.Result {
	r := &pgconn.Result{}
	for name := range strings.FieldsSeq(columns) {
		r.FieldDescriptions = append(r.FieldDescriptions, pgconn.FieldDescription{Name: name})
	}
	for _, row := range rows {
		var values [][]byte
		for v := range strings.FieldsSeq(row) {
			values = append(values, []byte(v))
		}
		r.Rows = append(r.Rows, values)
	}
	return r
}

func TestCountPools(t *testing.T) {
	const columns = "database user cl_active cl_waiting sv_active sv_idle sv_used sv_tested sv_login maxwait"
	clients, servers, err := countPools(pools(columns,
		"app app_user 190 10 4 3 2 1 5 0",
		"pgbouncer pgbouncer 1 0 0 0 0 0 0 0",
		"app other 1 0 1 0 0 0 0 0"))
	if clients != 201 || servers != 16 || err != nil {
		t.Errorf("%d clients, %d servers, %v", clients, servers, err)
	}
	for name, r := range map[string]*pgconn.Result{
		"missing column": pools("database cl_active", "app 1"),
		"no number":      pools(columns, "app app_user x 10 4 3 2 1 5 0"),
	} {
		if _, _, err := countPools(r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
