// Package schema is the vocabulary of the house: offices, positions, tables, values, changes and transactions, the Sink
// that hands them on, and the wire form in which they cross journal and broker.
//
// It imports next to nothing, so that every room can speak it. The structs are plain; what arrives from outside is checked
// at the door (Validate, Decode). wire.proto beside this file is the specification of the wire form.
package schema
