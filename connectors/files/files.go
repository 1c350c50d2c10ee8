// Package files is the sink that loads topics into files.
//
// Goroutines: none.
package files
