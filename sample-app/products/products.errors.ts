import { HttpException, HttpStatus, NotFoundException, PreconditionFailedException } from '@nestjs/common';

export class NoSuchDescriptionException extends NotFoundException {
  constructor(sku: string) {
    super(`${sku} has no description`);
  }
}

/** https://www.rfc-editor.org/rfc/rfc6585#section-3 */
export class PreconditionRequiredException extends HttpException {
  constructor() {
    super(
      {
        message:
          'Send If-Match with the ETag of the text that you changed, or If-None-Match: * for the first one',
        code: 'PRECONDITION_REQUIRED',
      },
      HttpStatus.PRECONDITION_REQUIRED,
    );
  }
}

export class DescriptionChangedException extends PreconditionFailedException {
  constructor() {
    super({ message: 'Somebody else has changed the description', code: 'DESCRIPTION_CHANGED' });
  }
}
