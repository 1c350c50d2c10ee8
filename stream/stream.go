// Package stream runs jobs: connectors that bring records into topics and load
// them out of topics. It parses jobs files, supervises the jobs, and makes
// their results exact.
//
// Jobs are ordinary Kafka clients of their own hub. Two rules carry the
// guarantees:
//
//   - A source's records, dead letters and checkpoint are one transaction, the
//     checkpoint is sent after everything it covers was acknowledged, and every
//     record carries the name of what it was made of (HeaderSource). After a
//     crash the open transaction is committed, and the records beyond the
//     checkpoint are found in the topics and not sent again. See docs/adr/0009.
//   - A sink's plan, which offsets one write holds, is durable before the
//     write. After a crash the same plan is executed again; the destination
//     makes that harmless.
//
// Both ways back are the ways of every start: an error ends a session, and
// the next session begins with what is durable.
//
// Goroutines: Runner.Run has one of its own, one that asks for the ends of
// topics, and one for each job, which end when Run's context does and were
// awaited when Run returns. A source job has
// one goroutine for each split, a sink job one for each task (at most four),
// one that watches for new partitions, and one for the sink's Keeper, if it has
// one; they end with the job's session, which awaits them. Kafka clients have goroutines of their own, which end
// when the session closes the client. Parse, Validate, Test and Describe have
// none.
package stream
