package group

// reconcile leads a member one step towards its target. owned is what the
// member says it has, nil if it did not say; free tells whether nobody has a
// partition. The result equals cur when there is nothing to do.
//
// Invariants: a member's epoch reaches the target's only when it has given up
// everything outside of the target; nothing is added that is not free.
func reconcile(cur Current, epoch int32, target Assignment, owned *Assignment, free func(partition) bool) Current {
	switch {
	case cur.State == Reconciled && cur.Epoch == epoch:
		return cur
	case cur.State == Unrevoked && holds(owned, cur.Revoking):
		return cur
	}
	kept := cur.Assigned.only(target.has)
	if revoking := cur.Assigned.minus(target); len(revoking) > 0 && holds(owned, revoking) {
		next := cur.at(cur.Epoch)
		next.State, next.Assigned, next.Revoking = Unrevoked, kept, revoking
		return next
	}
	missing := target.minus(kept)
	given := missing.only(free)
	next := cur.at(epoch)
	next.State, next.Assigned, next.Revoking = Reconciled, kept.plus(given), nil
	if given.Len() < missing.Len() {
		next.State = Unreleased
	}
	return next
}

// holds reports whether a member may still work on any of these partitions.
func holds(owned *Assignment, ps Assignment) bool {
	return owned == nil || owned.touches(ps)
}

// at is c at an epoch; the one before is remembered, because the answer that
// tells of the new one may be lost.
func (c Current) at(epoch int32) Current {
	if epoch != c.Epoch {
		c.Previous = c.Epoch
		c.Epoch = epoch
	}
	return c
}

func (c Current) equal(o Current) bool {
	return c.Epoch == o.Epoch && c.Previous == o.Previous && c.State == o.State &&
		c.Assigned.equal(o.Assigned) && c.Revoking.equal(o.Revoking)
}
