import { fc } from '../support/property.js';
import { IntrusiveSet, type SetMember } from '../../lib/runtime/intrusive-set.js';

describe('an intrusive set', () => {
  it('holds the members that were added and not deleted, like a Set', () => {
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

  it('may change during iteration: each initial member is visited once', () => {
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
