import { ConflictException } from '@nestjs/common';

export class RunInProgressException extends ConflictException {
  constructor() {
    super({ message: 'Another run is in progress; it takes seconds', code: 'RUN_IN_PROGRESS' });
  }
}
