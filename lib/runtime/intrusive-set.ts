/**
 * A member that knows its place in its set. It can be in one set at a time; -1 while it is in none.
 */
export interface SetMember {
  index: number;
}

/**
 * A set without order, for members that come and go with every operation. Members stand in one
 * array and know their place, so adding and deleting touch two fields.
 *
 * A `Set` or `Map` would be rehashed each time it has seen as many members as it has room for. V8
 * chains the old tables to the new one: once the first of the chain is old to the garbage
 * collector, every former member survives until the next full collection.
 */
export class IntrusiveSet<Member extends SetMember> implements Iterable<Member> {
  private readonly members: Member[] = [];

  get size(): number {
    return this.members.length;
  }

  /** Adds a member, which must be in no set. */
  add(member: Member): void {
    member.index = this.members.length;
    this.members.push(member);
  }

  /** @returns true if it was in the set */
  delete(member: Member): boolean {
    const { index } = member;
    if (index === -1) return false;
    const last = this.members.pop()!;
    if (last !== member) {
      this.members[index] = last;
      last.index = index;
    }
    member.index = -1;
    return true;
  }

  /** Iterates over a copy, so the set may change meanwhile. */
  [Symbol.iterator](): Iterator<Member> {
    return [...this.members].values();
  }
}
