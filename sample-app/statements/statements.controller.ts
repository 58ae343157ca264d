import { Controller, Param, Post } from '@nestjs/common';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { Statement } from './statement.dto.js';
import { StatementsService } from './statements.service.js';

@Controller('accounts/:id/statements')
export class StatementsController {
  constructor(private readonly statements: StatementsService) {}

  @Post()
  @ApiAtomicProblems()
  @ApiProblem(404)
  @ApiProblem(429)
  async create(@Param('id', IdPipe) id: string): Promise<Statement> {
    return await this.statements.create(id);
  }
}
