import { Controller, Get } from '@nestjs/common';
import { MailsService } from './mails.service.js';

@Controller('mails')
export class MailsController {
  constructor(private readonly mails: MailsService) {}

  @Get()
  async counts(): ReturnType<MailsService['counts']> {
    return await this.mails.counts();
  }
}
