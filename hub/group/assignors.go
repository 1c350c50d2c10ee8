package group

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// The assignors of the server, by their names in Kafka. They are pure: the
// same input gives the same target on every node.
const (
	Uniform = "uniform" // balanced; partitions stay where they are if they can
	Range   = "range"   // neighbours in each topic; the same numbers of all topics together
)

// assignor finds one by its name, or nil. Without a name it is Uniform.
func assignor(name string) func([]subscriber, map[record.TopicID]int32) []Assignment {
	switch name {
	case Uniform, "":
		return uniform
	case Range:
		return ranges
	}
	return nil
}

// subscriber is one member as an assignor sees it.
type subscriber struct {
	id       string
	instance string
	topics   []record.TopicID // sorted, each once
	prior    Assignment       // of the target before
}

// name orders members: static ones keep their place across restarts.
func (s *subscriber) name() string {
	if s.instance != "" {
		return s.instance
	}
	return s.id
}

// ranges gives each topic's partitions to its subscribers in order, in runs of
// neighbours whose lengths differ by at most one. The result is parallel to ms.
func ranges(ms []subscriber, partitions map[record.TopicID]int32) []Assignment {
	order := indexes(ms)
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(ms[a].name(), ms[b].name()) })
	got := make([]Assignment, len(ms))
	for i := range got {
		got[i] = Assignment{}
	}
	for t, subs := range subscribersOf(ms, order) {
		n, next := partitions[t], int32(0)
		each, more := n/int32(len(subs)), n%int32(len(subs))
		for i, m := range subs {
			share := each
			if int32(i) < more {
				share++
			}
			for range share {
				got[m][t] = append(got[m][t], next)
				next++
			}
		}
	}
	return got
}

func indexes(ms []subscriber) []int {
	order := make([]int, len(ms))
	for i := range ms {
		order[i] = i
	}
	return order
}

// subscribersOf lists, for each topic, the indexes of its subscribers in order.
func subscribersOf(ms []subscriber, order []int) map[record.TopicID][]int {
	of := map[record.TopicID][]int{}
	for _, i := range order {
		for _, t := range ms[i].topics {
			of[t] = append(of[t], i)
		}
	}
	return of
}

// uniform balances the number of partitions over the members and moves as few
// as it can: what a member has it keeps, what nobody has goes to the subscriber
// with the least, and then partitions move while that makes two members more
// equal. Members may have different subscriptions. ms is sorted by ID; the
// result is parallel to it.
func uniform(ms []subscriber, partitions map[record.TopicID]int32) []Assignment {
	order := indexes(ms)
	u := &balance{of: subscribersOf(ms, order), load: make([]int, len(ms)), owner: map[record.TopicID][]int{}}
	for t := range u.of {
		u.topics = append(u.topics, t)
	}
	slices.SortFunc(u.topics, func(a, b record.TopicID) int {
		// Topics that few can take first: the others fill up what they leave.
		return cmp.Or(cmp.Compare(len(u.of[a]), len(u.of[b])), compareTopics(a, b))
	})
	u.keep(ms, order, partitions)
	for _, t := range u.topics {
		u.fill(t)
	}
	for moved := true; moved; {
		moved = false
		for _, t := range u.topics {
			moved = u.level(t) || moved
		}
	}
	return u.result(len(ms))
}

// balance is a uniform assignment in the making.
type balance struct {
	topics []record.TopicID
	of     map[record.TopicID][]int // subscribers
	owner  map[record.TopicID][]int // by partition; -1: nobody
	load   []int                    // partitions of each member
}

// keep begins with what the members have already.
func (u *balance) keep(ms []subscriber, order []int, partitions map[record.TopicID]int32) {
	for _, t := range u.topics {
		u.owner[t] = slices.Repeat([]int{-1}, int(partitions[t]))
	}
	for _, i := range order {
		for t, ps := range ms[i].prior {
			owner := u.owner[t]
			if _, subscribed := slices.BinarySearchFunc(ms[i].topics, t, compareTopics); !subscribed {
				continue
			}
			for _, p := range ps {
				if int(p) < len(owner) && owner[p] < 0 {
					owner[p] = i
					u.load[i]++
				}
			}
		}
	}
}

// fill gives each partition that nobody has to the subscriber with the least.
func (u *balance) fill(t record.TopicID) {
	if !slices.Contains(u.owner[t], -1) {
		return
	}
	h := &leastLoaded{load: u.load, members: slices.Clone(u.of[t])}
	heap.Init(h)
	for p, o := range u.owner[t] {
		if o >= 0 {
			continue
		}
		least := h.members[0]
		u.owner[t][p] = least
		u.load[least]++
		heap.Fix(h, 0)
	}
}

// level moves partitions of one topic from the owner with the most to the
// subscriber with the least. Each move lowers the sum of the squares of the
// loads, so that there is an end.
func (u *balance) level(t record.TopicID) (moved bool) {
	for {
		least := u.of[t][0]
		for _, m := range u.of[t] {
			if u.load[m] < u.load[least] {
				least = m
			}
		}
		from := -1
		for p, o := range u.owner[t] {
			if u.load[o] >= u.load[least]+2 && (from < 0 || u.load[o] >= u.load[u.owner[t][from]]) {
				from = p
			}
		}
		if from < 0 {
			return moved
		}
		u.load[u.owner[t][from]]--
		u.load[least]++
		u.owner[t][from] = least
		moved = true
	}
}

func (u *balance) result(n int) []Assignment {
	got := make([]Assignment, n)
	for i := range got {
		got[i] = Assignment{}
	}
	for t, owners := range u.owner {
		for p, o := range owners {
			got[o][t] = append(got[o][t], int32(p))
		}
	}
	return got
}

// leastLoaded is a heap of members, the one with the fewest partitions on top.
type leastLoaded struct {
	load    []int
	members []int
}

func (h *leastLoaded) Len() int { return len(h.members) }
func (h *leastLoaded) Less(i, j int) bool {
	a, b := h.members[i], h.members[j]
	return cmp.Or(cmp.Compare(h.load[a], h.load[b]), cmp.Compare(a, b)) < 0
}
func (h *leastLoaded) Swap(i, j int) { h.members[i], h.members[j] = h.members[j], h.members[i] }
func (h *leastLoaded) Push(x any)    { h.members = append(h.members, x.(int)) }
func (h *leastLoaded) Pop() any {
	last := h.members[len(h.members)-1]
	h.members = h.members[:len(h.members)-1]
	return last
}
