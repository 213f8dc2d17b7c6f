package config

import (
	"regexp"
	"slices"
	"strings"
)

var (
	awsRegion = regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]+$`)

	// The DNS suffixes of the partitions of AWS, from the endpoint metadata
	// of its SDKs.
	awsSuffixes = []string{
		"amazonaws.com", "amazonaws.com.cn", "amazonaws.eu",
		"c2s.ic.gov", "sc2s.sgov.gov", "cloud.adc-e.uk", "csp.hci.ic.gov",
	}

	dsqlHost = regexp.MustCompile(`^[a-z0-9]+\.dsql(?:-[a-z0-9]+)?\.([a-z0-9-]+)\.on\.aws$`)
)

// Partition is the second field of the ARNs of a region.
func Partition(region string) string {
	for _, p := range [...]struct{ region, partition string }{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-isob-", "aws-iso-b"},
		{"us-isof-", "aws-iso-f"},
		{"eu-isoe-", "aws-iso-e"},
		{"us-iso-", "aws-iso"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p.region) {
			return p.partition
		}
	}
	return "aws"
}

// RegionFromHost returns the region that an RDS, Aurora or RDS Proxy endpoint
// name carries. The name may have any case and a final dot. There are two
// forms, both in use: NAME.REGION.rds.SUFFIX, and NAME.rds.REGION.SUFFIX in
// China and the isolated partitions. An alias, an address and the writer
// endpoint of a global database carry no region.
//
// The names of Aurora DSQL are ID.dsql.REGION.on.aws, or with a suffix to dsql
// behind a PrivateLink endpoint.
func RegionFromHost(host string) (string, bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if m := dsqlHost.FindStringSubmatch(host); m != nil && awsRegion.MatchString(m[1]) {
		return m[1], true
	}
	for _, suffix := range awsSuffixes {
		name, ok := strings.CutSuffix(host, "."+suffix)
		if !ok {
			continue
		}
		labels := strings.Split(name, ".")
		if len(labels) < 3 || slices.Contains(labels, "") {
			return "", false
		}
		last, before := labels[len(labels)-1], labels[len(labels)-2]
		if last == "rds" && awsRegion.MatchString(before) {
			return before, true
		}
		if before == "rds" && awsRegion.MatchString(last) {
			return last, true
		}
	}
	return "", false
}
