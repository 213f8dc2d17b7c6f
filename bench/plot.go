package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// bar is one line of the plot: how many times better than PgBouncer.
type bar struct {
	label     string
	advantage float64
}

// bars returns a suite's lines of the plot. Above 1 pgvalet is the better one,
// whether more of the figure is good or less.
func bars(s suite, result SuiteResult) []bar {
	var all []bar
	for _, r := range rows(s, result) {
		q, ok := r.ratios[pgbouncerKind]
		if !ok || !r.figure.plot || !r.Case.Plot {
			continue
		}
		advantage := q.ofMedians
		if r.figure.cost {
			advantage = 1 / advantage
		}
		if advantage > 0 && !math.IsInf(advantage, 0) {
			all = append(all, bar{r.Case.title() + ": " + r.figure.title, advantage})
		}
	}
	return all
}

// The plot's measures in pixels.
const (
	plotWidth   = 900
	plotLabels  = 430 // width of the labels
	plotValues  = 60  // width of the values behind the bars
	plotBar     = 14
	plotRow     = 22
	plotHeading = 38
	plotTop     = 64
)

// plotStyle is readable on a light and on a dark page.
const plotStyle = `
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.suite { font-weight: 600 }
.quiet { fill: #57606a }
.better { fill: #1a7f64 }
.worse { fill: #bc6c25 }
.even { stroke: #57606a; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.quiet { fill: #9198a1 }
.better { fill: #3fb68f }
.worse { fill: #e09f5a }
.even { stroke: #9198a1 }
}
`

// plot draws how many times better than PgBouncer pgvalet is, as SVG.
func plot(all []*Results) string {
	var body strings.Builder
	most := 1.0
	forEachSuite(all, func(_ suite, lines []bar) {
		for _, l := range lines {
			most = max(most, l.advantage)
		}
	})
	scale := (plotWidth - plotLabels - plotValues) / most
	y := plotTop
	forEachSuite(all, func(s suite, lines []bar) {
		fmt.Fprintf(&body, "<text class=\"suite\" x=\"10\" y=\"%d\">%s</text>\n", y+plotHeading-14, html.EscapeString(s.title))
		y += plotHeading
		for _, l := range lines {
			class := "better"
			if l.advantage < 1 {
				class = "worse"
			}
			width := l.advantage * scale
			fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", plotLabels-10, y+11, html.EscapeString(l.label))
			fmt.Fprintf(&body, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, plotLabels, y, width, plotBar)
			fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\">%.2f×</text>\n", plotLabels+width+6, y+11, l.advantage)
			y += plotRow
		}
	})
	height := y + 16
	even := plotLabels + scale
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"pgvalet compared with PgBouncer\">\n",
		plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, "<style>%s</style>\n", plotStyle)
	b.WriteString("<text class=\"title\" x=\"10\" y=\"24\">pgvalet compared with PgBouncer</text>\n")
	b.WriteString("<text class=\"quiet\" x=\"10\" y=\"44\">How many times better: more of what is good, less of what costs. The line is PgBouncer.</text>\n")
	b.WriteString(body.String())
	fmt.Fprintf(&b, "<line class=\"even\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n</svg>\n", even, plotTop, even, height-10)
	return b.String()
}

// forEachSuite calls do for every suite that has lines in the plot.
func forEachSuite(all []*Results, do func(s suite, lines []bar)) {
	for _, r := range all {
		for _, result := range r.Suites {
			s, err := suiteNamed(result.Name)
			if err != nil {
				continue
			}
			if lines := bars(s, result); len(lines) > 0 {
				do(s, lines)
			}
		}
	}
}
