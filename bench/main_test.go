package main

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

var shared backendtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }
