package config

import (
	"crypto/tls"
	"slices"
	"testing"
)

func TestCipherSuites(t *testing.T) {
	for _, tt := range []struct {
		list    string
		want    []uint16 // nil: those of crypto/tls
		refused bool
	}{
		{list: ""},
		{list: "default"},
		{list: "HIGH:!aNULL:!MD5@STRENGTH"},
		{list: "ECDHE-RSA-AES128-GCM-SHA256", want: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
		{
			list: "ECDHE-ECDSA-CHACHA20-POLY1305:AES256-SHA, DES-CBC3-SHA ECDHE-ECDSA-CHACHA20-POLY1305",
			want: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		},
		{list: "ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES128-SHA256:!ECDHE-RSA-AES128-SHA", want: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}},
		{list: "AES256-SHA:!AES256-SHA", refused: true},
		{list: "HIGH:CAMELLIA256-SHA", refused: true},
	} {
		got, err := CipherSuites(tt.list)
		if (err != nil) != tt.refused || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, %v, want %v", tt.list, got, err, tt.want)
		}
	}
	all, err := CipherSuites("HIGH:!AES256-SHA:!ECDHE-RSA-AES128-SHA")
	if err != nil || len(all) == 0 || slices.Contains(all, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA) {
		t.Errorf("got %v, %v", all, err)
	}
}
