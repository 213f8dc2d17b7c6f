// Command bench measures pgvalet beside PgBouncer and beside PostgreSQL without
// a pooler, on one machine: throughput, CPU time, memory, latency and logins.
//
// What is compared runs with the same settings, certificates and secrets, and
// in turns: one run of each, then again in another order, after a round that
// is thrown away. So what the machine does meanwhile hits all alike. README.md
// explains the method, what each figure means and how to run it.
package main
