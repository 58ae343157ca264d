import fc from 'fast-check';
import { IntrusiveSet, type SetMember } from '../../lib/runtime/intrusive-set.js';

describe('a bag', () => {
  it('holds what was added and not deleted, as a set does', () => {
    const step = fc.record({ which: fc.nat({ max: 7 }), isAdd: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const members = Array.from({ length: 8 }, (): SetMember => ({ index: -1 }));
        const bag = new IntrusiveSet<SetMember>();
        const model = new Set<SetMember>();
        for (const { which, isAdd } of steps) {
          const member = members[which]!;
          if (!isAdd) expect(bag.delete(member)).toBe(model.delete(member));
          else if (!model.has(member)) {
            bag.add(member);
            model.add(member);
          }
          expect(bag.size).toBe(model.size);
          expect(new Set(bag)).toEqual(model);
          expect([...bag].map(({ index: place }) => place)).toEqual([...bag].map((_, i) => i));
          expect(members.every((one) => (one.index === -1) === !model.has(one))).toBe(true);
        }
      }),
    );
  });

  it('may be changed while it is looked through: who was in it is met once', () => {
    const bag = new IntrusiveSet<SetMember>();
    const members = Array.from({ length: 4 }, (): SetMember => ({ index: -1 }));
    for (const member of members) bag.add(member);
    const met: SetMember[] = [];
    for (const member of bag) {
      met.push(member);
      bag.delete(member);
    }
    expect(met).toEqual(members);
    expect(bag.size).toBe(0);
  });
});
