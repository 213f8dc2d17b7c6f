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
)

// RegionFromHost returns the region that an RDS, Aurora or RDS Proxy endpoint
// name carries. The name may have any case and a final dot. There are two
// forms, both in use: NAME.REGION.rds.SUFFIX, and NAME.rds.REGION.SUFFIX in
// China and the isolated partitions. An alias, an address and the writer
// endpoint of a global database carry no region.
func RegionFromHost(host string) (string, bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
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
