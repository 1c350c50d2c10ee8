// Package docs holds the pages about the product and, as its test, the law
// that they state: docs_test.go reads the tables of ARCHITECTURE.md and fails
// on any import, package or dependency that they do not allow.
//
// Goroutines: none.
package docs
