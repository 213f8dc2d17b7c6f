package config

import "testing"

func TestRegionFromHost(t *testing.T) {
	for host, want := range map[string]string{
		"mydb.c0abcdefghij.us-east-1.rds.amazonaws.com":                   "us-east-1",
		"MyDB.C0ABCDEFGHIJ.US-East-1.RDS.AmazonAWS.com.":                  "us-east-1",
		"mydb.cluster-c0abcdefghij.ap-southeast-2.rds.amazonaws.com":      "ap-southeast-2",
		"mydb.cluster-ro-c0abcdefghij.eu-west-3.rds.amazonaws.com":        "eu-west-3",
		"mydb.cluster-custom-c0abcdefghij.il-central-1.rds.amazonaws.com": "il-central-1",
		"mydb.proxy-c0abcdefghij.us-west-2.rds.amazonaws.com":             "us-west-2",
		"ro.endpoint.proxy-c0abcdefghij.us-west-2.rds.amazonaws.com":      "us-west-2",
		"mydb.shardgrp-c0abcdefghij.us-east-2.rds.amazonaws.com":          "us-east-2",
		"mydb.c0abcdefghij.us-gov-west-1.rds.amazonaws.com":               "us-gov-west-1",
		"mydb.c0abcdefghij.rds.cn-north-1.amazonaws.com.cn":               "cn-north-1",
		"mydb.cluster-c0abcdefghij.rds.cn-northwest-1.amazonaws.com.cn":   "cn-northwest-1",
		"mydb.c0abcdefghij.cn-north-1.rds.amazonaws.com.cn":               "cn-north-1",
		"mydb.c0abcdefghij.rds.us-iso-east-1.c2s.ic.gov":                  "us-iso-east-1",
		"mydb.c0abcdefghij.rds.us-isob-east-1.sc2s.sgov.gov":              "us-isob-east-1",
		"mydb.c0abcdefghij.rds.eu-isoe-west-1.cloud.adc-e.uk":             "eu-isoe-west-1",
		"mydb.c0abcdefghij.rds.us-isof-south-1.csp.hci.ic.gov":            "us-isof-south-1",
		"mydb.c0abcdefghij.rds.eusc-de-east-1.amazonaws.eu":               "eusc-de-east-1",

		"abcdefghijklmnopqrst0123456.dsql.us-east-1.on.aws":         "us-east-1",
		"abcdefghijklmnopqrst0123456.dsql-fnh4.eu-west-2.on.aws":    "eu-west-2",
		"abcdefghijklmnopqrst0123456.dsql.us-east-1.on.aws.example": "",
		"dsql.us-east-1.on.aws":                                     "",
		"x.lambda-url.us-east-1.on.aws":                             "",

		"mydb.global-c0abcdefghij.global.rds.amazonaws.com":          "",
		"us-east-1.rds.amazonaws.com":                                "",
		".us-east-1.rds.amazonaws.com":                               "",
		"rds.us-east-1.amazonaws.com":                                "",
		"mydb.c0abcdefghij.us-east-1.rds.amazonaws.com.evil.example": "",
		"mydb.us-east-1.rds.evilamazonaws.com":                       "",
		"db.us-east-1.redshift.amazonaws.com":                        "",
		"db.example.com":                                             "",
		"localhost":                                                  "",
		"10.0.0.1":                                                   "",
		"":                                                           "",
	} {
		got, ok := RegionFromHost(host)
		if got != want || ok != (want != "") {
			t.Errorf("RegionFromHost(%q) = %q, %v; want %q", host, got, ok, want)
		}
	}
}
