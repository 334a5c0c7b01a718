// Package fleet runs a small company for the demo, the flow tests and the benchmarks: a head office and branches, each with
// its own database on a real server and its own sidecar process, a broker between them, links that can be cut, applications
// that write, and a comparison of all offices at the end.
package fleet
