package config

import "strings"

// nearest returns the name that is most like the mistyped one, or "" if none
// is like it. Letter case does not count.
func nearest(typed string, names []string) string {
	typed = strings.ToLower(typed)
	best, limit := "", min(3, (len(typed)+2)/3)
	for _, n := range names {
		if d := editDistance(typed, n, limit); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// editDistance is the number of insertions, deletions and replacements that
// turn a into b; any number above limit stands for "more than limit".
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
