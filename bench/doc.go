// Command bench compares the product with what an operator would otherwise use, the databases' own replication: the same
// data on the same machine in one run, on private servers. It prints a table and writes a file for docs/benchmarks.
//
// A section is one question with its servers, its work and its figures. What it measures it also checks: a run in which
// two tables differ ends with an error. A must that is not met does not.
package main
