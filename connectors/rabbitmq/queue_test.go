package rabbitmq_test

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/connectors/rabbitmq"
)

// TestQueueSuite on both types of queue.
func TestQueueSuite(t *testing.T) {
	for _, typ := range []string{"classic", "quorum"} {
		t.Run(typ, func(t *testing.T) {
			conntest.Queue(t, rabbitmq.Source{}, func(t *testing.T) conntest.QueueCase {
				b := shared(t)
				b.queue("q", typ, nil)
				return conntest.QueueCase{
					Config: b.source("q", nil),
					Send: func(texts ...string) {
						for _, text := range texts {
							b.publish("q", amqp.Publishing{Body: []byte(text), MessageId: text})
						}
					},
					Text: func(m connectors.Message) string { return string(m.Value) },
					Kept: func() (all []string) {
						b.until("the broker knows that the reader is gone", func() error {
							q, err := b.ch.QueueDeclarePassive("q", true, false, false, false, nil)
							if err == nil && q.Consumers > 0 {
								err = errStill
							}
							return err
						})
						for _, d := range b.rest("q") {
							all = append(all, string(d.Body))
						}
						return all
					},
					InOrder: true,
				}
			})
		})
	}
}
