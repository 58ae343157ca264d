/** What knows its own place in the one bag that it can be in; -1 while it is in none. */
export interface SetMember {
  index: number;
}

/**
 * A set for what comes and goes with every operation, without order. Members stand in one array and know where, so that adding and deleting touch two fields.
 *
 * A `Set` or `Map` would be made anew each time it has seen as many members as it has room for, and V8 chains the old ones to the new: once the first of that chain is
 * old to the garbage collector, everything that was ever in one of them survives until the next full collection.
 */
export class IntrusiveSet<Member extends SetMember> implements Iterable<Member> {
  private readonly members: Member[] = [];

  get size(): number {
    return this.members.length;
  }

  /** A member must be in no bag. */
  add(member: Member): void {
    member.index = this.members.length;
    this.members.push(member);
  }

  /** @returns whether it was in */
  delete(member: Member): boolean {
    const { index: place } = member;
    if (place === -1) return false;
    const last = this.members.pop()!;
    if (last !== member) {
      this.members[place] = last;
      last.index = place;
    }
    member.index = -1;
    return true;
  }

  /** Those in it now: it may be changed meanwhile. */
  [Symbol.iterator](): Iterator<Member> {
    return [...this.members].values();
  }
}
