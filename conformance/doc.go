// Package conformance asks real database servers whether values arrive as what they were: each of testdata/types is written on
// one server, captured from its log, sent as a message has it, applied on others, and read back. All of it is tests; which
// servers they run on is said by the environment (see package servers).
//
// It is a place where capture and apply meet, beside sim and cmd.
package conformance
